"""`compress`: read, run the loop, choose, and write the output folder with its reports."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optkit.artifact import MANIFEST, REPORTS, library_versions
from optkit.benchmarking import stored_answers
from optkit.benchmarking.environment import describe, standing_doubts, thread_count, usable_cores
from optkit.benchmarking.evaluation import Evaluator, doubts_of
from optkit.benchmarking.plan import PRECISE, Plan, Shape
from optkit.benchmarking.summaries import padding
from optkit.benchmarking.targets import require
from optkit.benchmarking.unlabelled import MEASURED, OWN, Unlabelled, unlike_others
from optkit.compression.accuracy_aware import AccuracyAwareLoop
from optkit.compression.choice import winners
from optkit.compression.loop import Loop
from optkit.compression.measured_on import examples_of, refuse_both
from optkit.compression.recipe import Recipe
from optkit.compression.runtime_search import may_pad, search
from optkit.compression.steps import AnyOf
from optkit.core.cpu import has_vnni
from optkit.core.files import read_json, write_json
from optkit.core.output import claimed, staged, writing
from optkit.errors import OutputError
from optkit.events import Events, Note, Step, silent
from optkit.models.checkpoint import fetch
from optkit.passes.base import Pass
from optkit.report.model import Report, Row
from optkit.tasks.base import Columns, open_task


def compress(
    source: str | Path,
    recipe: Recipe | Sequence[Pass | AnyOf | str] = ("int8",),
    *,
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    out: str | Path | None = None,
    task: str | None = None,
    metric: str | None = None,
    columns: Columns = Columns(),
    split: str = "validation",
    shapes: tuple[str, ...] | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    precise: bool = False,
    limit: int | None = None,
    force: bool = False,
    keep_steps: bool = False,
    tune_runtime: bool = False,
    trust_remote_code: bool = False,
    events: Events = silent,
    command: str = "",
) -> Report:
    """Compress the checkpoint at `source` by `recipe`, measure every step, keep the best that passes.

    `source` is a folder or a hub name; `recipe` may be a list for `Recipe.of`, such as
    `[Prune(0.6), "int8"]`; `data` as `optkit.data.dataset.Data` takes it, by default what the checkpoint's
    manifest names (`optkit.training.provenance`). Without any, fidelity is measured in place of accuracy:
    whether answers equal those of the checkpoint itself, on the texts in the file `unlabelled` or on built-in
    ones; the gate is then `Gate.of_fidelity`. `limit` bounds the examples measured (None: the whole split);
    `precise` takes so many processes and rounds that a difference in speed of 5% is seen; `tune_runtime`
    searches the chosen model's runtime settings by measurement (`optkit.compression.runtime_search`) and
    keeps them in its manifest. The folder `out` (default: models/NAME-int8, after the checkpoint and what the
    recipe makes of it) gets the chosen artifact and report.json, .md, .html. When no candidate passes the
    gate, the one with the best score is there, `report.gate["passed"]` is False, and the command line exits
    with 3.

    Raises an OptkitError that says what was wrong; then nothing lies under `out`.

    >>> import optkit
    >>> optkit.compress("ckpt", optkit.Recipe.int8(), data="sst2", out="models/x")  # doctest: +SKIP
    """
    begun = time.monotonic()
    if not isinstance(recipe, Recipe):
        recipe = Recipe.of(recipe)
    refuse_both(data, unlabelled)
    require(recipe.target)
    with claimed(
        default_out(source, recipe) if out is None else out, force, (source, data, unlabelled)
    ) as out:
        events(Note(f"reading {source}"))
        checkpoint = fetch(source, trust_remote_code)
        model_task = open_task(checkpoint, task, metric)
        given = examples_of(checkpoint, data, unlabelled, model_task, columns, split, limit, metric, events)
        examples, labelled, ranges = given.source, given.labelled, given.ranges
        if ranges is not None:
            recipe = replace(recipe, gate=recipe.gate.of_fidelity())
        columns = labelled.columns  # other splits are read by the same ones

        threads = thread_count(threads)
        plan = Plan(
            shapes=tuple(Shape.parse(s) for s in shapes or model_task.shapes),
            threads=threads,
            **{**(PRECISE if precise else {}), **_given(rounds=rounds, processes=processes)},
        )
        work = out.parent / f".{out.name}.work"
        encoded_file = work / "examples.npz"
        run = AccuracyAwareLoop(
            checkpoint=checkpoint,
            recipe=recipe,
            evaluator=Evaluator(
                *(model_task, labelled, encoded_file, plan, events, recipe.target),
                asks_agreement=recipe.gate.min_agreement is not None,
            ),
            calibration=work / "calibration.npz" if ranges is not None else None,
            data=examples,
            columns=columns,
            split=split,
            work=work,
            trust_remote_code=trust_remote_code,
            events=events,
        )
        run.check(recipe.chains())
        with writing(work):
            work.mkdir(parents=True, exist_ok=True)
            for leftover in work.glob(".*.partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            labelled.encoded.save(encoded_file)
            if ranges is not None:
                ranges.save(work / "calibration.npz")
            run.all()
        shape_names = tuple(shapes or ())
        report = conclude(run, str(source), out, shape_names, begun, force, keep_steps, command, tune_runtime)
        if not keep_steps:
            shutil.rmtree(work, ignore_errors=True)
        return report


def conclude(
    run: Loop,
    source: str,
    out: Path,
    shapes: tuple[str, ...],
    begun: float,
    force: bool = False,
    keep_steps: bool = False,
    command: str = "",
    tune_runtime: bool = False,
) -> Report:
    """Choose among what `run` has judged, and write the chosen artifact with its reports to `out`."""
    gpu = require(run.recipe.target)
    recipe, examples, split, work = run.recipe, run.data, run.split, run.work
    model_task, labelled = run.evaluator.task, run.evaluator.labelled
    threads = run.evaluator.plan.threads or usable_cores()
    chosen = run.choose(shapes)
    passed = chosen is not None and chosen.verdict == "passed"
    options: dict[str, Any] = {}
    if tune_runtime and chosen is not None:
        run.events(Step("runtime settings"))
        one = next(c for c in run.candidates if c.name == chosen.name)
        tuned = search(one, run.evaluator.encoded_file, run.evaluator.plan, bucket=may_pad(chosen))
        options = tuned.options
        run.trace += [f"runtime settings: {_told(trial)}" for trial in tuned.trace]
    report = Report(
        task=model_task.name,
        metric="" if run.evaluator.unlabelled else model_task.metric,
        data={
            "name": examples.name,
            "split": split,
            "held_out": examples.is_held_out(split),
            "examples": len(labelled.references),
            "sha256": examples.fingerprint(split),
            "truncated": labelled.encoded.truncated,
            "padding": padding(labelled.encoded),
        },
        target=recipe.target,
        environment={
            **describe(threads),
            "versions": library_versions(),
            "measured_with": run.evaluator.plan.record(),
            "peaks": asdict(run.peaks) if run.peaks else None,
            "noise": run.noise,
            **({"gpu": gpu.record(), "transfers": "included"} if gpu else {}),
        },
        rows=run.rows,
        chosen=chosen.name if chosen else None,
        gate={**recipe.gate.to_dict(), "conditions": recipe.gate.describe(), "passed": passed},
        recipe=recipe.to_dict(),
        source=source,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        doubts=_doubts(run, recipe),
        labels=list(getattr(model_task, "labels", [])),
        trace=run.trace,
        winners=winners(run.rows, run.leaves),
        why=run.why(chosen, shapes),
        fidelity=MEASURED.format(OWN, examples.name) if run.evaluator.unlabelled else "",
        seconds=round(time.monotonic() - begun, 1),
        measuring_seconds=round(run.measuring_seconds, 1),
        peak_rss_bytes=run.peak_rss_bytes,
    )
    for row in run.rows:
        if row is not chosen and not keep_steps and Path(row.artifact).parent == work:
            row.artifact = ""  # it goes with the work folder
    _write(report, chosen, out, force, options, threads, run.trust_remote_code)
    return report


def default_out(source: str | Path, recipe: Recipe) -> Path:
    """models/NAME-int8: after the checkpoint's folder or hub name, and what `recipe` makes of it."""
    name = Path(source).resolve().name if os.path.exists(source) else str(source).rpartition("/")[2]
    return Path("models") / f"{name or 'model'}-{recipe.suffix()}"


def _given(**values: Any) -> dict[str, Any]:
    """What was asked for: None leaves a default as it is."""
    return {name: value for name, value in values.items() if value is not None}


def _doubts(run: Loop, recipe: Recipe) -> list[str]:
    """What a reader should know before believing the report."""
    doubts = [*doubts_of(run.rows), *run.doubts, *standing_doubts(describe())]
    count = len(run.evaluator.labelled.references)
    labelled = run.evaluator.labelled
    if labelled.empty:
        doubts.append(f"{labelled.empty} of {count} texts are empty; they count as all others do.")
    if labelled.skipped:
        doubts.append(f"{labelled.skipped} rows hold too little text to score and were left out.")
    truncated = labelled.encoded.truncated
    if truncated:
        doubts.append(f"{truncated} of {count} texts are longer than the model's maximum and were truncated.")
    if not has_vnni() and any(row.precision == "int8" for row in run.rows):
        doubts.append(
            "This CPU has no VNNI: INT8 gains little or is slower than fp32, and 8-bit products may "
            "saturate; reduce_range = true keeps weights to 7 bits, as --int8 does by itself here."
        )
    for row in run.rows:
        wanted, ran = row.notes.get("quantized_matmuls", 0), row.probes.get("int8") or {}
        if (missing := wanted - ran.get("int8_multiplies", wanted)) > 0:
            doubts.append(
                f"{row.name}: {missing} of {wanted} quantized multiplies ran in float: {row.runtime} has no "
                "INT8 kernel for them on this CPU."
            )
    if isinstance(run.data, Unlabelled):
        doubts += [
            unlike_others(run.data),
            f"Ranges, where a pass takes them, come from {len(run.data.calibration)} other texts of the same "
            "source.",
        ]
    if run.data.is_held_out(run.split):
        doubts.append(f"The data has no {run.split} split: a tenth was held out of the rest.")
    allowed = recipe.gate.allowed_drop(run.rows[0].score)
    for row in run.rows:
        if allowed is not None and row.verdict == "passed" and row.drop and row.drop.high > allowed:
            doubts.append(
                f"{row.name}: {count} examples are too few to promise a drop of at most {allowed:.4f}: "
                f"the 95% interval of its drop reaches {row.drop.high:.4f}."
            )
    return doubts


def _told(trial: dict[str, Any]) -> str:
    """One trial of the runtime search, in words."""
    if trial.get("failed"):
        return f"{trial['setting']} = {trial['value']} failed"
    verdict = "" if trial["sure"] else ", within the noise"
    return f"{trial['setting']} = {trial['value']} is {trial['speed']:.2f} times as fast{verdict}"


def _write(
    report: Report,
    chosen: Row | None,
    out: Path,
    force: bool,
    options: dict[str, Any],
    threads: int,
    trust: bool,
) -> None:
    with staged(out, force) as folder:
        if chosen is not None:
            source = Path(chosen.artifact)
            shutil.copytree(
                source,
                folder,
                ignore=shutil.ignore_patterns(*REPORTS),
                dirs_exist_ok=True,
                copy_function=shutil.copyfile,
            )
            manifest = read_json(folder / MANIFEST, OutputError)
            manifest["task"] = report.task
            manifest["runtime"] = {
                "name": chosen.runtime,
                "options": {**(manifest.get("runtime") or {}).get("options", {}), **options},
            }
            manifest["gate"] = report.gate
            write_json(folder / MANIFEST, manifest)
            stored_answers.store(folder, threads=threads, trust_remote_code=trust)
            chosen.artifact = str(out)
        report.save_all(folder)
