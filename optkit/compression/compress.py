"""`compress`: read, run the loop, choose, and write the output folder with its reports."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optkit.benchmarking import stored_answers
from optkit.benchmarking.environment import describe, standing_doubts, usable_cores
from optkit.benchmarking.evaluation import Model
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.results import doubts_of, report_of
from optkit.benchmarking.targets import require
from optkit.benchmarking.unlabelled import MEASURED, OWN, Unlabelled, unlike_others
from optkit.compression.accuracy_aware import gentler
from optkit.compression.chain import Measured, check, judge, measure, run_recipe
from optkit.compression.choice import choose, tied_in, why, winners
from optkit.compression.flags import recipe_of
from optkit.compression.job import Job, open_job, refuse_both
from optkit.compression.recipe import Recipe
from optkit.compression.runtime_search import may_pad, search
from optkit.compression.steps import AnyOf
from optkit.compression.store import Store
from optkit.core.artifact import MANIFEST, REPORTS
from optkit.core.cpu import has_vnni
from optkit.core.files import read_json, write_json
from optkit.core.output import claimed, staged, writing
from optkit.core.quantities import listed
from optkit.errors import OutputError
from optkit.events import Events, Note, Saved, Step, silent
from optkit.passes.base import Pass
from optkit.report.model import Report, Row
from optkit.tasks.base import Columns


def compress(
    checkpoint: str | Path,
    recipe: Recipe | Sequence[Pass | AnyOf | str] | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    int8: bool = False,
    prune: float | None = None,
    distill: bool = False,
    epochs: float | None = None,
    layers: int | None = None,
    teacher: str | None = None,
    unlabelled: str | Path | None = None,
    prune_vocabulary: bool = False,
    runtime: str | None = None,
    batch_invariant: bool = False,
    min_agreement: str | float | None = None,
    max_drop: str | float | None = None,
    min_speedup: float | None = None,
    target: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    split: str = "validation",
    limit: int | None = None,
    columns: Columns = Columns(),
    shapes: str | Sequence[str] | None = None,
    threads: int | None = None,
    precise: bool = False,
    rounds: int | None = None,
    processes: int | None = None,
    force: bool = False,
    keep_steps: bool = False,
    tune_runtime: bool = False,
    trust_remote_code: bool = False,
    events: Events = silent,
    command: str = "",
) -> Report:
    """Compress, measure every step, keep the fastest that passes.

    Without data, fidelity is measured in place of accuracy: whether answers equal those of the checkpoint
    itself, on the texts of `unlabelled` or on built-in ones.

    Parameters:
        checkpoint: a Hugging Face folder (safetensors) or a hub name.
        recipe: a `Recipe`, a list for `Recipe.of` such as `[Prune(0.6), "int8"]`, or a file (TOML, JSON).
            None: the passes that the switches below name.
        data: a folder of train and validation files, one file, or a hub data set (name:config). None: what
            `finetune` noted in the checkpoint, else none.
        out: the folder to make: the chosen artifact, and report.json, .md, .html. None: models/NAME-int8,
            after the checkpoint and what the recipe makes of it.
        int8: try INT8 in every installed CPU engine.
        prune: remove this share of the encoder's FLOPs first: 0.6 removes 60%.
        distill: then train what is left to answer as the unpruned model does.
        epochs: with `distill`: passes over the texts. None: 3.
        layers: with `distill`: a student of so many of the layers.
        teacher: with `distill`: another model to learn from.
        unlabelled: a file of texts without labels to compare answers on, where there is no data; with
            `distill`: more texts to learn from.
        prune_vocabulary: drop the tokens that the training data never uses.
        runtime: with `int8`: this engine only (onnxruntime, openvino).
        batch_invariant: refuse INT8 whose answers depend on the texts in their batch.
        min_agreement: least share of answers equal to the model's own, for certain: "95%". None: the
            recipe's, without data 90%.
        max_drop: most the score may drop: "1%" (relative) or 0.01 (absolute). None: the recipe's, else 1%.
        min_speedup: least speedup over torch fp32, at the lower end of its interval.
        target: where it will serve: cpu, or cuda, which tries every way this machine has for its GPU. None:
            the recipe's.
        task: what the model is for. None: from its architecture.
        metric: the task's metric. None: its first.
        split: the split that scores are taken on.
        limit: score at most this many examples, drawn over the whole split.
        columns: which columns of the data hold text, second text and label.
        shapes: latency shapes, batch x tokens: "1xdata,1x16", or a list. None: the task's.
        threads: threads of each runtime. None: all cores.
        precise: more processes and rounds: sees differences of 5%, and timing takes six times as long.
        rounds: timed visits per process and shape.
        processes: fresh processes per candidate.
        force: replace `out`.
        keep_steps: keep every step's artifact beside `out`.
        tune_runtime: search the chosen model's runtime settings by measurement; its manifest keeps them.
        trust_remote_code: run code that the checkpoint brings.
        events: hears of progress (`optkit.events`).
        command: what the report names as the command that made it.

    Returns the report. When no candidate passes the gate, the one with the best score lies in `out`, and the
    report's gate says that it did not pass.

    Raises an OptkitError that says what was wrong; then nothing lies under `out`.

    >>> import optkit
    >>> optkit.compress("ckpt", int8=True, data="sst2", out="models/x")  # doctest: +SKIP
    """
    begun = time.monotonic()
    recipe = recipe_of(
        recipe,
        int8=int8,
        prune=prune,
        distill=distill,
        epochs=epochs,
        layers=layers,
        teacher=teacher,
        unlabelled=unlabelled if distill else None,
        prune_vocabulary=prune_vocabulary,
        runtime=runtime,
        batch_invariant=batch_invariant,
        min_agreement=min_agreement,
        max_drop=max_drop,
        min_speedup=min_speedup,
        target=target,
    )
    source, unlabelled, shapes = checkpoint, None if distill else unlabelled, listed(shapes)
    refuse_both(data, unlabelled)
    require(recipe.target)
    with claimed(
        default_out(source, recipe) if out is None else out, force, (source, data, unlabelled)
    ) as out:
        events(Note(f"reading {source}"))
        work = out.parent / f".{out.name}.work"
        job = open_job(
            *(source, data, unlabelled, work),
            task=task,
            metric=metric,
            columns=columns,
            split=split,
            limit=limit,
            shapes=shapes,
            threads=threads,
            rounds=rounds,
            processes=processes,
            events=events,
            precise=precise,
            target=recipe.target,
            asks_agreement=recipe.gate.min_agreement is not None,
            trust_remote_code=trust_remote_code,
        )
        if job.ranges is not None:
            recipe = replace(recipe, gate=recipe.gate.of_fidelity())
        check(job, recipe.chains())
        with writing(work):
            for leftover in work.glob(".*.partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            job.save_examples()
            store = Store.of(job)
            models, candidates = run_recipe(job, store, recipe)
            trace, untimed = gentler(job, store, recipe, models, candidates)
            measured = measure(job, models.values(), candidates, untimed)
        rows = judge(job, recipe.gate, measured.rows, candidates)
        chosen = choose(rows, candidates, shapes, tied_in(measured.measurement))
        options: dict[str, Any] = {}
        if tune_runtime and chosen is not None:
            events(Step("runtime settings"))
            model = next(m for m in models.values() if isinstance(m, Model) and m.name == chosen.name)
            tuned = search(
                model.candidate, job.evaluator.encoded_file, job.evaluator.plan, bucket=may_pad(chosen)
            )
            options = tuned.options
            trace = [*trace, *(f"runtime settings: {_in_words(trial)}" for trial in tuned.trace)]
        report = conclude(
            *(job, recipe, measured, rows, candidates, chosen, why(chosen, rows, candidates, shapes)),
            source=str(source),
            out=out,
            begun=begun,
            force=force,
            keep_steps=keep_steps,
            command=command,
            trace=trace,
            options=options,
        )
        if not keep_steps:
            shutil.rmtree(work, ignore_errors=True)
        events(Saved(out))
        return report


def conclude(
    job: Job,
    recipe: Recipe,
    measured: Measured,
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
    gpu = require(recipe.target)

    def final(row: Row) -> Row:
        if row is chosen:
            return replace(row, artifact=str(out))
        gone = not keep_steps and Path(row.artifact).parent == job.work
        return replace(row, artifact="") if gone else row

    report = report_of(
        *(
            job.evaluator,
            [*map(final, rows)],
            measured.measurement,
            measured.peaks,
            job.data,
            job.split,
            begun,
        ),
        environment={"gpu": gpu.record(), "transfers": "included"} if gpu else {},
        chosen=chosen.name if chosen else None,
        gate={
            **recipe.gate.to_dict(),
            "conditions": recipe.gate.describe(),
            "passed": chosen is not None and chosen.verdict == "passed",
        },
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
    _write(job, report, chosen, out, force, options or {})
    return report


def default_out(source: str | Path, recipe: Recipe) -> Path:
    """models/NAME-int8: after the checkpoint's folder or hub name, and what `recipe` makes of it."""
    name = Path(source).resolve().name if os.path.exists(source) else str(source).rpartition("/")[2]
    return Path("models") / f"{name or 'model'}-{recipe.suffix()}"


def _doubts(job: Job, gate: Gate, rows: Sequence[Row]) -> list[str]:
    """What a reader should know of the data and of each row before believing the report."""
    doubts, labelled, count = [], job.evaluator.labelled, job.examples
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
    allowed = gate.allowed_drop(rows[0].score)
    for row in rows:
        if allowed is not None and row.verdict == "passed" and row.drop and row.drop.high > allowed:
            doubts.append(
                f"{row.name}: {count} examples are too few to promise a drop of at most {allowed:.4f}: "
                f"the 95% interval of its drop reaches {row.drop.high:.4f}."
            )
    return doubts


def _in_words(trial: dict[str, Any]) -> str:
    """One trial of the runtime search, in words."""
    if trial.get("failed"):
        return f"{trial['setting']} = {trial['value']} failed"
    verdict = "" if trial["sure"] else ", within the noise"
    return f"{trial['setting']} = {trial['value']} is {trial['speed']:.2f} times as fast{verdict}"


def _write(
    job: Job, report: Report, chosen: Row | None, out: Path, force: bool, options: dict[str, Any]
) -> None:
    with staged(out, force) as folder:
        if chosen is not None:
            shutil.copytree(
                chosen.artifact,
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
            threads = job.threads or usable_cores()
            stored_answers.store(folder, threads=threads, trust_remote_code=job.trust_remote_code)
            rows = [
                replace(row, artifact=str(out)) if row.name == chosen.name else row for row in report.rows
            ]
            report = replace(report, rows=rows)
        report.save_all(folder)
