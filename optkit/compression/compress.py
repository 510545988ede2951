"""`compress`: read, run the passes, measure, choose, and write the output folder with its reports."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from optkit.benchmarking.evaluation import Model
from optkit.benchmarking.targets import require
from optkit.compression.accuracy_aware import gentler
from optkit.compression.chain import judge, measure, run_recipe
from optkit.compression.choice import choose, tied_in, why
from optkit.compression.conclusion import conclude
from optkit.compression.flags import recipe_of
from optkit.compression.job import open_job, refuse_both
from optkit.compression.recipe import Recipe
from optkit.compression.refusals import check
from optkit.compression.runtime_search import RuntimeSettings, may_pad, search
from optkit.compression.steps import AnyOf, suited
from optkit.compression.store import Store
from optkit.core.output import claimed, writing
from optkit.core.quantities import listed
from optkit.events import Events, Note, Saved, Step, silent
from optkit.passes.base import Pass
from optkit.report.model import Report
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
    unlabelled, shapes = None if distill else unlabelled, listed(shapes)
    refuse_both(data, unlabelled)
    require(recipe.target)
    if out is None:
        out = default_out(checkpoint, recipe)
    with claimed(out, force, (checkpoint, data, unlabelled)) as out:
        events(Note(f"reading {checkpoint}"))
        work = out.parent / f".{out.name}.work"
        job = open_job(
            *(checkpoint, data, unlabelled, work),
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
        recipe = replace(recipe, steps=suited(recipe.steps, job.task))
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
        settings = RuntimeSettings()
        if tune_runtime and chosen is not None:
            events(Step("runtime settings"))
            model = next(m for m in models.values() if isinstance(m, Model) and m.name == chosen.name)
            plan = job.evaluator.plan
            settings = search(model.candidate, job.evaluator.encoded_file, plan, bucket=may_pad(chosen))
        report = conclude(
            *(job, recipe, measured, rows, candidates, chosen, why(chosen, rows, candidates, shapes)),
            source=str(checkpoint),
            out=out,
            begun=begun,
            force=force,
            keep_steps=keep_steps,
            command=command,
            trace=[*trace, *settings.in_words()],
            options=settings.options,
        )
        if not keep_steps:
            shutil.rmtree(work, ignore_errors=True)
        events(Saved(out))
        return report


def default_out(checkpoint: str | Path, recipe: Recipe) -> Path:
    """models/NAME-int8: after the checkpoint's folder or hub name, and what `recipe` makes of it."""
    is_folder = os.path.exists(checkpoint)
    name = Path(checkpoint).resolve().name if is_folder else str(checkpoint).rpartition("/")[2]
    return Path("models") / f"{name or 'model'}-{recipe.suffix()}"
