"""`conclude`: the report of what was measured and chosen, and the output folder with both."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optkit.benchmarking import stored_answers
from optkit.benchmarking.environment import describe, standing_doubts, usable_cores
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.results import doubts_of, report_of
from optkit.benchmarking.targets import require
from optkit.benchmarking.unlabelled import MEASURED, OWN, Unlabelled, unlike_others
from optkit.compression.chain import MeasuredRows
from optkit.compression.choice import winners
from optkit.compression.job import Job
from optkit.compression.recipe import Recipe
from optkit.core.artifact import MANIFEST, REPORTS
from optkit.core.cpu import has_vnni
from optkit.core.files import read_json, write_json
from optkit.core.output import staged
from optkit.errors import OutputError
from optkit.models.adapter import merge_note
from optkit.report.facts import GateResult
from optkit.report.model import Report, Row


def conclude(
    job: Job,
    recipe: Recipe,
    measured: MeasuredRows,
    rows: Sequence[Row],
    candidates: Collection[str],
    chosen: Row | None,
    why: str,
    *,
    source: str,
    out: Path,
    begun: float,
    force: bool,
    keep_steps: bool,
    command: str,
    trace: Sequence[str] = (),
    options: dict[str, Any] | None = None,
) -> Report:
    """Write the artifact of the `chosen` row, with the runtime `options`, and the reports to `out`."""

    def final(row: Row) -> Row:
        if row is chosen:
            return replace(row, artifact=str(out))
        gone = not keep_steps and Path(row.artifact).parent == job.work
        return replace(row, artifact="") if gone else row

    gate = recipe.gate.result(chosen)
    report = report_of(
        *(job.evaluator, [*map(final, rows)], measured.measurement, measured.peaks),
        *(job.data, job.split, begun),
        gpu=require(recipe.target),
        chosen=chosen.name if chosen else None,
        gate=gate,
        recipe=recipe.to_dict(),
        source=source,
        command=command,
        doubts=[
            *doubts_of(rows),
            *measured.doubts,
            *standing_doubts(describe()),
            *_doubts(job, recipe.gate, rows),
        ],
        trace=list(trace),
        winners=winners(list(rows), list(candidates)),
        why=why,
        fidelity=MEASURED.format(OWN, job.data.name) if job.evaluator.unlabelled else "",
        measuring_seconds=round(measured.seconds, 1),
        peak_rss_bytes=measured.peak_rss_bytes,
    )
    with staged(out, force) as folder:
        if chosen is not None:
            _copy(job, chosen, gate, options or {}, folder)
        report.save_all(folder)
    return report


def _doubts(job: Job, gate: Gate, rows: Sequence[Row]) -> list[str]:
    """What a reader should know of the data and of each row before believing the report."""
    doubts, labelled, count = [], job.evaluator.labelled, job.examples
    if line := merge_note(job.source):
        doubts.append(line)
    if labelled.empty:
        doubts.append(f"{labelled.empty} of {count} texts are empty; they count as all others do.")
    if labelled.skipped:
        doubts.append(f"{labelled.skipped} rows hold too little text to score and were left out.")
    if truncated := labelled.encoded.truncated:
        doubts.append(f"{truncated} of {count} texts are longer than the model's maximum and were truncated.")
    if not has_vnni() and any(row.precision == "int8" for row in rows):
        doubts.append(
            "This CPU has no VNNI: INT8 gains little or is slower than fp32, and 8-bit products may "
            "saturate; reduce_range = true keeps weights to 7 bits, as --int8 does by itself here."
        )
    for row in rows:
        wanted, ran = row.notes.get("quantized_matmuls", 0), row.probes.get("int8") or {}
        if (missing := wanted - ran.get("int8_multiplies", wanted)) > 0:
            doubts.append(
                f"{row.name}: {missing} of {wanted} quantized multiplies ran in float: {row.runtime} has no "
                "INT8 kernel for them on this CPU."
            )
    if isinstance(job.data, Unlabelled):
        doubts += [
            unlike_others(job.data),
            f"Ranges, where a pass takes them, come from {len(job.data.calibration)} other texts of the same "
            "source.",
        ]
    if job.data.is_held_out(job.split):
        doubts.append(f"The data has no {job.split} split: a tenth was held out of the rest.")
    for row in rows:
        if row.verdict == "passed":
            doubts += [f"{row.name}: {doubt}" for doubt in gate.drop_doubts(row.drop, rows[0].score, count)]
    return doubts


def _copy(job: Job, chosen: Row, gate: GateResult, options: dict[str, Any], folder: Path) -> None:
    """The artifact of `chosen` into `folder`; its manifest says how it is opened and what it kept."""
    shutil.copytree(
        chosen.artifact,
        folder,
        ignore=shutil.ignore_patterns(*REPORTS),
        dirs_exist_ok=True,
        copy_function=shutil.copyfile,
    )
    manifest = read_json(folder / MANIFEST, OutputError)
    stored = (manifest.get("runtime") or {}).get("options", {})
    manifest |= {
        "task": job.task.name,
        "runtime": {"name": chosen.runtime, "options": {**stored, **options}},
        "gate": asdict(gate),
    }
    write_json(folder / MANIFEST, manifest)
    threads = job.threads or usable_cores()
    stored_answers.store(folder, threads=threads, trust_remote_code=job.trust_remote_code)
