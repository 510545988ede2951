"""`benchmark`: several models side by side, without compressing anything."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optkit.artifact import Artifact, library_versions
from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.environment import describe, nodes_of, standing_doubts, thread_count, usable
from optkit.benchmarking.evaluation import Evaluator, doubts_of, failed_row, first_sound, plain_row, stored
from optkit.benchmarking.opened_models import OpenedModel, named, open_model, synthetic
from optkit.benchmarking.plan import Plan, Shape
from optkit.benchmarking.roofline import Peak
from optkit.benchmarking.run_scenarios import Scenarios, fill_in
from optkit.benchmarking.scenarios import MIN_SECONDS, SHAPES
from optkit.benchmarking.summaries import padding
from optkit.benchmarking.targets import target_of
from optkit.benchmarking.unlabelled import MEASURED, Unlabelled, built_in_for, read, unlike_others
from optkit.core.output import claimed, staged
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError, OptkitError, PassError, RecipeError, WorkerError
from optkit.events import Events, Note, RowDone, Step, silent
from optkit.report.model import Report, Row
from optkit.tasks.base import Columns, Labelled, open_task

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
        found = [open_model(text, folder, trust_remote_code, verify_key) for text in models]
        found = named(found, names)
        asked = {"task": task} if task else {}
        found = [replace(m, options={**m.options, **asked, **(options or {}).get(m.name, {})}) for m in found]
        threads = thread_count((plan or {}).get("threads"), (plan or {}).get("cores"))
        given = data is not None or unlabelled is not None
        wanted = [Shape.parse(s) for s in shapes or _usual(found, given, scenarios)]
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
        run = _Benchmark(found, settings, folder, events)
        if data is not None:
            run.read(Data(str(data)), split, columns, task, metric, limit)
        else:
            run.read_unlabelled(None if unlabelled is None else str(unlabelled), columns, task, limit)
        rows = run.measure(scenarios)
        about, target = run.about(split), run.target
        report = Report(
            task=run.task.name if run.task else "",
            metric=run.task.metric if run.task and not run.fidelity else "",
            fidelity=run.fidelity,
            data=about,
            target=target,
            environment={
                **describe(threads),
                "versions": library_versions(),
                "measured_with": settings.record(),
                "peaks": asdict(run.peaks) if run.peaks else None,
                "noise": run.noise,
            },
            rows=rows,
            source=", ".join(models),
            command=command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            doubts=run.doubts,
            labels=list(getattr(run.task, "labels", [])),
            seconds=round(time.monotonic() - begun, 1),
            peak_rss_bytes=sum(row.peak_rss_bytes for row in rows),
        )
        if out is not None:
            with staged(Path(out), force) as final:
                report.save_all(final)
    return report


class _Benchmark:
    """One run: first `read` or `read_unlabelled`, then `measure`."""

    def __init__(self, found: list[OpenedModel], plan: Plan, folder: Path, events: Events) -> None:
        self.task: Any = None
        self.doubts: list[str] = []
        self.noise: dict[str, float | None] = {}
        self.peaks: Peak | None = None
        self._found, self._plan, self._folder, self._events = found, plan, folder, events
        self._labelled = Labelled(EncodedSet({}, {}), [])
        self._file = folder / "examples.npz"
        self._data: Data | Unlabelled | None = None

    @property
    def target(self) -> str:
        """`cuda` where any of the models is served there."""
        return max((target_of(Artifact.open(model.artifact)) for model in self._found), default="cpu")

    def read(
        self,
        data: Data,
        split: str,
        columns: Columns,
        task: str | None,
        metric: str | None,
        limit: int | None,
    ) -> None:
        """Encode the split for every model: by its own tokenizer where that differs from the first's."""
        rows = data.split(split, limit)
        self._encode(lambda one: one.read(rows, columns), task, metric)
        self._data = data
        self._events(Note(self._labelled.described(data.name, split)))

    def read_unlabelled(
        self, file: str | None, columns: Columns, task: str | None, limit: int | None
    ) -> None:
        """Encode the inputs in `file`, or built-in ones where answers can be compared; else random ones."""
        try:
            if file is None and len(self._found) < 2:
                raise RecipeError("a single model was given")
            reader = next((m for m in self._found if m.reads_text), None)
            if reader is None:
                raise _nothing_reads()
            first = open_task(Artifact.open(reader.artifact), task)
            found = read(file, first, columns, limit) if file else built_in_for(first, limit)
            self._encode(found.labelled, task, None)
        except OptkitError as reason:
            if file is not None:
                raise
            self.doubts.append(f"Answers were not compared: {reason}")
            self.task, self._data = None, None
            self._read_nothing()
            return
        self._data = found
        self._events(Note(self._labelled.described(found.name)))

    @property
    def fidelity(self) -> str:
        """What was measured in place of accuracy; "" where accuracy or times alone were."""
        if not isinstance(self._data, Unlabelled):
            return ""
        return MEASURED.format(f"those of {self._found[0].name}", self._data.name)

    def _encode(self, read: Callable[[Any], Labelled], task: str | None, metric: str | None) -> None:
        """What `read` gives for the task of each model, in files for the processes that answer."""
        # An .onnx file beside which no tokenizer lies reads texts as the first model does.
        readers = [m for m in self._found if m.reads_text]
        if not readers:
            raise _nothing_reads()
        texts = self._folder / "texts.json"
        done: dict[str, Path] = {}
        for i, model in enumerate(self._found):
            source = model if model.reads_text else readers[0]
            key = source.reader
            mine = open_task(Artifact.open(source.artifact), task, metric)
            # Two models may read alike and still mean other labels.
            if self.task is not None and (mine.name, _labels(mine)) != (self.task.name, _labels(self.task)):
                raise RecipeError(
                    f"Expected models of one task with the same labels, received {self.task.name} "
                    f"{_labels(self.task)} and, from {model.name}, {mine.name} {_labels(mine)}.",
                    hint="Compare them in two runs.",
                )
            if key not in done:
                labelled = read(mine)
                if self.task is None:
                    self.task, self._labelled = mine, labelled
                    if any(shape.tokens == "text" for shape in self._plan.shapes):
                        raw = stored(labelled.inputs or labelled.sources, self._folder / "images")
                        texts.write_text(json.dumps(raw), encoding="utf-8")
                done[key] = self._folder / f"examples-{i}.npz"
                labelled.encoded.save(done[key])
            self._found[i] = replace(
                model,
                encoded=str(done[key]),
                texts=str(texts) if model.reads_text and texts.exists() else None,
            )
        self._file = done[readers[0].reader]

    def _read_nothing(self) -> None:
        """Random inputs of all lengths up to 128, as the models declare them."""
        encoded = synthetic(self._found)
        self._labelled = Labelled(encoded, [None] * len(encoded))
        encoded.save(self._file)

    def measure(self, scenarios: Scenarios) -> list[Row]:
        """A row per model; `doubts`, `noise` and `peaks` are known after it."""
        evaluator = Evaluator(self.task, self._labelled, self._file, self._plan, self._events, self.target)
        rows: list[Row] = []
        candidates, before = [], None
        failures: list[OptkitError] = []
        for model in self._found:
            candidate = model.candidate()
            self._step(model.name, len(rows) + 1)
            try:
                if self.task is None:
                    rows.append(plain_row(candidate))
                else:
                    outputs = self._folder / f"outputs-{len(rows)}.npz"
                    rows.append(evaluator.row(candidate, outputs, before, plain=True))
                    if before is None:
                        before = load_outputs(outputs)
                candidates.append(candidate)
            except (WorkerError, PassError, CheckpointError) as error:
                rows.append(failed_row(model.name, error))
                failures.append(error)
                self._events(Note(f"{model.name}: {error}"))
        if candidates:
            self._step("latency, all side by side", 0)
            rows, doubts = first_sound(rows)
            sound = [row for row in rows if row.verdict != "error"]
            measured = evaluator.time(sound, candidates)
            failures += [failure for row in sound if (failure := measured[row.name].failure)]
            for row in sound:
                if row.verdict != "error":
                    row.verdict = "baseline" if row is rows[0] else "measured"
            if rows[0].verdict == "error":
                doubts.append(
                    f"{rows[0].name} failed while timed, so no speedup is known: name another model first."
                )
            self.noise = measured.noise
            self.peaks, impossible = evaluator.roofline(sound)
            self.doubts += [*doubts_of(sound), *measured.doubts, *doubts, *impossible]
            fill_in(
                sound,
                candidates,
                measured,
                scenarios,
                self._plan,
                self._file,
                len(self._labelled.encoded),
                self._events,
            )
        if all(row.verdict == "error" for row in rows):
            reasons = " ".join(reason for row in rows for reason in row.reasons)
            kinds = {type(failure) for failure in failures}
            kind = kinds.pop() if len(kinds) == 1 else WorkerError  # what all of them are refused for
            raise kind(f"No model could be measured. {reasons}")
        for row in rows:
            self._events(RowDone(row))
        self.doubts += standing_doubts(describe()) + self._of_cores() + self._of_data()
        return rows

    def about(self, split: str) -> dict[str, Any]:
        """What the report says of the data."""
        encoded = self._labelled.encoded
        if self._data is None:
            return {"name": "random inputs", "split": "none", "examples": len(encoded), "truncated": 0}
        return {
            "name": self._data.name,
            "split": split,
            "held_out": self._data.is_held_out(split),
            "examples": len(self._labelled.references),
            "sha256": self._data.fingerprint(split),
            "truncated": encoded.truncated,
            "padding": padding(encoded),
        }

    def _step(self, name: str, index: int) -> None:
        total = len(self._found) if index else 0
        self._events(Step(name, index, total))

    def _of_cores(self) -> list[str]:
        nodes = nodes_of(set(self._plan.cores or usable()))
        if len(nodes) > 1:
            return [
                f"The models ran on cores of {len(nodes)} NUMA nodes, where times depend on where memory "
                "lies; --cores with those of one node avoids it."
            ]
        return []

    def _of_data(self) -> list[str]:
        if self._data is None:
            return ["The inputs are random: scores are not measured, and times hold for fixed lengths only."]
        if isinstance(self._data, Unlabelled):
            return [unlike_others(self._data)]
        return []


def _usual(found: list[OpenedModel], data: bool, scenarios: Scenarios) -> tuple[str, ...]:
    """The shapes that nobody named: with scenarios only the one that ratios speak of.

    Images have one size, so that a number of tokens says nothing of them.
    """
    if scenarios.names:
        return ("1xdata",)
    if any(model.takes_images for model in found):
        return ("1xdata", "8xdata") if data else ("1x1", "8x1")
    return DATA_SHAPES if data else FIXED_SHAPES


def _refuse_contradictions(models: Sequence[str], data: Any, unlabelled: Any, metric: str | None) -> None:
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


def _labels(task: Any) -> Any:
    return getattr(task, "labels", None)
