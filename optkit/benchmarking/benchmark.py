"""`benchmark`: several models side by side, without compressing anything."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.environment import describe, nodes_of, standing_doubts, thread_count, usable
from optkit.benchmarking.evaluation import Evaluator, Failure, Model, stored
from optkit.benchmarking.opened_models import (
    named,
    open_model,
    reader_of,
    reads_text,
    synthetic,
    takes_images,
    takes_sound,
)
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.results import doubts_of, failed_row, faster_than_possible, report_of, row_of
from optkit.benchmarking.run_scenarios import Scenarios, scenarios_of
from optkit.benchmarking.scenarios import MIN_SECONDS, SHAPES
from optkit.benchmarking.targets import target_of
from optkit.benchmarking.unlabelled import MEASURED, Unlabelled, built_in_for, read, unlike_others
from optkit.core.artifact import Artifact
from optkit.core.output import claimed, staged
from optkit.data.dataset import Data, drawn
from optkit.errors import CheckpointError, DataError, OptkitError, PassError, RecipeError, WorkerError
from optkit.events import Events, Note, RowDone, Step, silent
from optkit.report.model import Answers, Report
from optkit.tasks.base import Columns, Labelled, Task, open_task

#: Shapes where there is no data: lengths that most texts lie between.
FIXED_SHAPES = ("1x16", "1x32", "1x128", "8x128")
#: The first two lines of a report with data: the model alone, and the whole way from text to answer.
DATA_SHAPES = ("1xdata", "1xtext", *FIXED_SHAPES)


def benchmark(
    models: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    options: dict[str, dict[str, Any]] | None = None,
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    split: str = "validation",
    columns: Columns = Columns(),
    task: str | None = None,
    metric: str | None = None,
    limit: int | None = None,
    shapes: Sequence[str] | None = None,
    scenarios: Scenarios = Scenarios(),
    plan: dict[str, Any] | None = None,
    trust_remote_code: bool = False,
    verify_key: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    events: Events = silent,
    command: str = "",
) -> Report:
    """`optkit.bench`, with what a program may ask for besides.

    `options` are runtime options by name of a model, over those in its manifest; `plan` holds fields of
    `optkit.benchmarking.plan.Plan`. For a single model without data, and where answers cannot be compared,
    inputs are random and only times are measured; a doubt says why.

    A model whose process crashes, hangs or runs out of memory has a row of verdict `error`, and the
    others finish. Where the first cannot answer, the next that can becomes the first row; where it
    fails while timed, there are no ratios; a doubt says so. Raises WorkerError when all of them failed,
    CheckpointError, DataError or RecipeError for what cannot be measured at all.
    """
    begun = time.monotonic()
    _refuse_contradictions(models, data, unlabelled, metric)
    reads = (*models, *(text.rpartition("@")[0] for text in models), data, unlabelled)
    with (
        claimed(out, force, reads) if out is not None else nullcontext(),
        tempfile.TemporaryDirectory(prefix="optkit-bench-") as scratch,
    ):
        folder = Path(scratch)
        opened = [open_model(text, folder, trust_remote_code, verify_key) for text in models]
        opened = named(opened, names)
        asked = {"task": task} if task else {}
        opened = [
            replace(m, options={**m.options, **asked, **(options or {}).get(m.name, {})}) for m in opened
        ]
        threads = thread_count((plan or {}).get("threads"), (plan or {}).get("cores"))
        given = data is not None or unlabelled is not None
        wanted = [Shape.parse(s) for s in shapes or _usual(opened, given, scenarios)]
        wanted += [SHAPES[name] for name in scenarios.names if name in SHAPES]
        if not given and not all(shape.fixed for shape in wanted):
            raise RecipeError(
                f"The shapes {', '.join(str(s) for s in wanted if not s.fixed)} need data, received none.",
                hint="Give --data, --unlabelled, or shapes of numbers such as 1x128.",
            )
        settings = Plan(
            **{
                "shapes": tuple(dict.fromkeys(wanted)),
                "min_seconds": MIN_SECONDS if scenarios.full else 0.0,
                **(plan or {}),
                "threads": threads,
            }
        )
        if data is not None:
            labelled = Data(str(data))
            rows = labelled.split(split)

            def read(one: Task) -> Labelled:
                return one.read(drawn(rows, limit, one.together(rows, columns)), columns)

            inputs = _encoded(opened, settings, read, task, metric, folder)
            inputs = replace(inputs, data=labelled)
        else:
            inputs = _unlabelled(opened, settings, unlabelled, columns, task, limit, folder)
        if inputs.data is not None:
            where = (split,) if data is not None else ()
            events(Note(inputs.labelled.described(inputs.data.name, *where)))
        source = ", ".join(models)
        report = _measured(inputs, settings, scenarios, events, folder, split, begun, source, command)
        if out is not None:
            with staged(Path(out), force) as final:
                report.save_all(final)
    return report


@dataclass(frozen=True)
class _Inputs:
    """What `models` are measured on, and the file of it; each model knows the one that it reads itself."""

    models: list[Candidate]
    labelled: Labelled
    file: Path
    task: Task | None = None
    data: Data | Unlabelled | None = None
    doubts: tuple[str, ...] = ()

    @property
    def fidelity(self) -> str:
        """What was measured in place of accuracy; "" where accuracy or times alone were."""
        if not isinstance(self.data, Unlabelled):
            return ""
        return MEASURED.format(f"those of {self.models[0].name}", self.data.name)


def _unlabelled(
    models: list[Candidate],
    plan: Plan,
    file: str | Path | None,
    columns: Columns,
    task: str | None,
    limit: int | None,
    folder: Path,
) -> _Inputs:
    """The inputs in `file`, or built-in ones where answers can be compared; else random ones, as the models
    declare them."""
    try:
        if file is None and len(models) < 2:
            raise RecipeError("a single model was given")
        reader = next((m for m in models if reads_text(m)), None)
        if reader is None:
            raise _nothing_reads()
        first = open_task(Artifact.open(reader.artifact), task)
        texts = read(str(file), first, columns, limit) if file else built_in_for(first, limit)
        return replace(_encoded(models, plan, texts.labelled, task, None, folder), data=texts)
    except OptkitError as reason:
        if file is not None:
            raise
        return _random(models, folder, f"Answers were not compared: {reason}")


def _random(models: list[Candidate], folder: Path, *doubts: str) -> _Inputs:
    encoded = synthetic(models)
    encoded.save(folder / "random.npz")
    return _Inputs(models, Labelled(encoded, [None] * len(encoded)), folder / "random.npz", doubts=doubts)


def _encoded(
    models: list[Candidate],
    plan: Plan,
    read: Callable[[Task], Labelled],
    task: str | None,
    metric: str | None,
    folder: Path,
) -> _Inputs:
    """What `read` gives for the task of each model, encoded by its own tokenizer where that differs from the
    first's. An .onnx file beside which no tokenizer lies reads texts as the first model does."""
    readers = [m for m in models if reads_text(m)]
    if not readers:
        raise _nothing_reads()
    texts, first, labelled = folder / "texts.json", None, None
    files: dict[str, Path] = {}
    ready = []
    for i, model in enumerate(models):
        source = model if reads_text(model) else readers[0]
        model_task = open_task(Artifact.open(source.artifact), task, metric)
        # Two models may read alike and still mean other labels.
        if first is not None and (model_task.name, _labels(model_task)) != (first.name, _labels(first)):
            raise RecipeError(
                f"Expected models of one task with the same labels, received {first.name} "
                f"{_labels(first)} and, from {model.name}, {model_task.name} {_labels(model_task)}.",
                hint="Compare them in two runs.",
            )
        if reader_of(source) not in files:
            examples = read(model_task)
            if first is None or labelled is None:
                first, labelled = model_task, examples
                if any(shape.tokens == "text" for shape in plan.shapes):
                    raw = stored(labelled.inputs or labelled.sources, folder / "images")
                    texts.write_text(json.dumps(raw), encoding="utf-8")
            files[reader_of(source)] = folder / f"examples-{i}.npz"
            examples.encoded.save(files[reader_of(source)])
        own_texts = str(texts) if reads_text(model) and texts.exists() else None
        ready.append(replace(model, encoded=str(files[reader_of(source)]), texts=own_texts))
    assert labelled is not None
    return _Inputs(ready, labelled, files[reader_of(readers[0])], first)


def _measured(
    inputs: _Inputs,
    plan: Plan,
    scenarios: Scenarios,
    events: Events,
    folder: Path,
    split: str,
    begun: float,
    source: str,
    command: str,
) -> Report:
    """A report with a row per model; the first that can answer stands in front."""
    target = max((target_of(Artifact.open(model.artifact)) for model in inputs.models), default="cpu")
    evaluator = Evaluator(inputs.task, inputs.labelled, inputs.file, plan, events, target)  # type: ignore[arg-type]
    models: list[Model] = []
    failed: list[Failure] = []
    for number, opened in enumerate(inputs.models, start=1):
        events(Step(opened.name, number, len(inputs.models)))
        try:
            models.append(_answered(evaluator, opened, models, folder))
        except (WorkerError, PassError, CheckpointError) as error:
            failed.append(Failure(opened.name, error))
            events(Note(f"{opened.name}: {error}"))
    if not models:
        raise _all_failed([failure.error for failure in failed])
    events(Step("latency, all side by side"))
    measured = evaluator.measure(models)
    sound = [model for model in models if not measured[model.name].error]
    if not sound:
        raise _all_failed(
            [*(f.error for f in failed), *(e for m in models if (e := measured[m.name].failure))]
        )
    peaks, bounds, peak_doubts = evaluator.roofline(sound)
    count, candidates = len(inputs.labelled.encoded), [model.candidate for model in models]
    results = scenarios_of(candidates, measured, scenarios, plan, inputs.file, count, events)
    first, encoded = models[0], inputs.labelled.encoded
    rows = [
        row_of(
            *(model, encoded, measured[model.name], measured[first.name], bounds.get(model.name)),
            verdict="baseline" if model is first else "measured",
            scenarios=results.get(model.name, []),
        )
        for model in models
    ]
    others = [failed_row(failure.name, failure.error) for failure in failed]
    moved = []
    if first.name != inputs.models[0].name:
        moved = [f"{inputs.models[0].name} failed, so all models are compared to {first.name}."]
    if measured[first.name].error:
        moved.append(f"{first.name} failed while timed, so no speedup is known: name another model first.")
    order = [first.name, *(model.name for model in inputs.models if model.name != first.name)]
    rows = sorted([*rows, *others], key=lambda row: order.index(row.name))
    for row in rows:
        events(RowDone(row))
    return report_of(
        *(evaluator, rows, measured, peaks, inputs.data, split, begun),
        source=source,
        command=command,
        fidelity=inputs.fidelity,
        doubts=[
            *inputs.doubts,
            *(*doubts_of(rows), *measured.doubts, *moved, *peak_doubts, *faster_than_possible(rows)),
            *(*standing_doubts(describe()), *_of_cores(plan), *_of_data(inputs.data)),
        ],
        peak_rss_bytes=sum(row.peak_rss_bytes for row in rows),
    )


def _answered(evaluator: Evaluator, candidate: Candidate, before: list[Model], folder: Path) -> Model:
    """How `candidate` answers beside the first of those `before` it; without inputs to read, what it is."""
    if evaluator.task is None:
        artifact = Artifact.open(candidate.artifact)
        return Model(candidate, Answers(artifact.precision, artifact.size_bytes))
    outputs = folder / f"outputs-{len(before)}.npz"
    first = load_outputs(folder / "outputs-0.npz") if before else None
    return Model(candidate, evaluator.answer(candidate, outputs, first, plain=True))


def _all_failed(errors: list[OptkitError]) -> OptkitError:
    classes = {type(error) for error in errors}
    error_class = classes.pop() if len(classes) == 1 else WorkerError  # what all of them are refused for
    return error_class(f"No model could be measured. {' '.join(error.whole for error in errors)}")


def _of_cores(plan: Plan) -> list[str]:
    nodes = nodes_of(set(plan.cores or usable()))
    if len(nodes) > 1:
        return [
            f"The models ran on cores of {len(nodes)} NUMA nodes, where times depend on where memory "
            "lies; --cores with those of one node avoids it."
        ]
    return []


def _of_data(data: Data | Unlabelled | None) -> list[str]:
    if data is None:
        return ["The inputs are random: scores are not measured, and times hold for fixed lengths only."]
    return [unlike_others(data)] if isinstance(data, Unlabelled) else []


def _usual(opened: list[Candidate], data: bool, scenarios: Scenarios) -> tuple[str, ...]:
    """The shapes that nobody named: with scenarios only the one that ratios speak of.

    Images have one size, so that a number of tokens says nothing of them; sounds have no tokens.
    """
    if scenarios.names or any(takes_sound(model) for model in opened):
        return ("1xdata",)
    if any(takes_images(model) for model in opened):
        return ("1xdata", "8xdata") if data else ("1x1", "8x1")
    return DATA_SHAPES if data else FIXED_SHAPES


def _refuse_contradictions(
    models: Sequence[str], data: object, unlabelled: object, metric: str | None
) -> None:
    if data is not None and unlabelled is not None:
        raise RecipeError(
            "Expected data with labels or texts without, received both.",
            hint="With --data accuracy is measured, with --unlabelled whether answers are the same.",
        )
    if unlabelled is not None and len(models) < 2:
        raise RecipeError(
            "Expected two models or more for --unlabelled, whose answers are compared, received one.",
            hint="Name the checkpoint first: optkit bench CHECKPOINT ARTIFACT --unlabelled FILE.",
        )
    if data is None and metric is not None:
        raise RecipeError(
            f"Expected data with labels for the metric {metric}, received none.",
            hint="Give --data, or leave --metric out.",
        )


def _nothing_reads() -> DataError:
    return DataError(
        "None of the models has a tokenizer, so no data can be read.",
        hint="Put tokenizer.json and config.json beside the .onnx file.",
    )


def _labels(task: Task) -> list[str] | None:
    return getattr(task, "labels", None)
