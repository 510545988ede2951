"""`Job`: what is compressed, for which task, and what it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optkit.benchmarking.environment import thread_count
from optkit.benchmarking.evaluation import Evaluator
from optkit.benchmarking.plan import Plan, Shape, fields_of
from optkit.benchmarking.unlabelled import MEASURED, OWN, Unlabelled, built_in_for, read
from optkit.core.artifact import Artifact
from optkit.core.locks import locked
from optkit.core.output import writing
from optkit.data.dataset import Data, drawn
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, RecipeError
from optkit.events import Events, Note
from optkit.models.adapter import merge_note
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, Task, open_task
from optkit.training.provenance import origin


@dataclass(frozen=True)
class Job:
    """The checkpoint `source`, the data, and the `evaluator` with the task, the metric and the plan.

    `columns` are those of all splits. `ranges` are the inputs that passes take ranges from where `data` has
    no labels, and `calibration` is their file.
    """

    source: Artifact
    data: Data | Unlabelled
    columns: Columns
    split: str
    evaluator: Evaluator
    trust_remote_code: bool = False
    ranges: EncodedSet | None = None
    calibration: Path | None = None

    @property
    def task(self) -> Task:
        return self.evaluator.task

    @property
    def threads(self) -> int | None:
        return self.evaluator.plan.threads

    @property
    def events(self) -> Events:
        return self.evaluator.events

    @property
    def examples(self) -> int:
        """How many examples models are measured on."""
        return len(self.evaluator.labelled.references)

    @property
    def work(self) -> Path:
        """The folder for all that is made on the way."""
        return self.evaluator.encoded_file.parent

    def save_examples(self) -> None:
        """Write the encoded inputs into `work`, for child processes."""
        files = {self.evaluator.encoded_file: self.evaluator.labelled.encoded, self.calibration: self.ranges}
        with writing(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
            for file, encoded in files.items():
                if file is not None and encoded is not None:
                    with locked(file):
                        if not file.exists():
                            encoded.save(file)


def open_job(
    source: str | Path,
    data: str | Path | None,
    unlabelled: str | Path | None,
    work: Path,
    *,
    task: str | None,
    metric: str | None,
    columns: Columns,
    split: str,
    limit: int | None,
    shapes: Sequence[str] | None,
    threads: int | None,
    rounds: int | None,
    processes: int | None,
    events: Events,
    precise: bool = False,
    target: str = "cpu",
    asks_agreement: bool = False,
    trust_remote_code: bool = False,
) -> Job:
    """Read the checkpoint and a split of `data`, else of the data that it names, else inputs without labels.

    Nothing is written yet; `work` is where it will be.
    Raises CheckpointError, DataError, and RecipeError for data with labels and texts without at once.
    """
    refuse_both(data, unlabelled)
    checkpoint = fetch(source, trust_remote_code)
    if line := merge_note(checkpoint):
        events(Note(line))
    opened = open_task(checkpoint, task, metric)
    examples: Data | Unlabelled | None = None if data is None else Data(str(data))
    if data is None and unlabelled is None:
        known = origin(checkpoint)
        events(Note(known.said))
        if known.name is not None:
            examples, columns = Data(known.name), columns if columns != Columns() else known.columns
    ranges = None
    if isinstance(examples, Data):
        rows = examples.split(split)
        labelled = opened.read(drawn(rows, limit, opened.together(rows, columns)), columns)
        events(Note(labelled.described(examples.name, split)))
    elif metric is not None:
        raise DataError(
            f"Expected data with labels for the metric {metric}, received none.",
            hint="Give --data, or leave --metric out: answers are compared with the model's own.",
        )
    else:
        examples = (
            built_in_for(opened, limit)
            if unlabelled is None
            else read(str(unlabelled), opened, columns, limit)
        )
        events(Note(MEASURED.format(OWN, examples.name)))
        labelled, ranges = examples.labelled(opened), examples.ranges(opened)
        if unlabelled is not None:
            events(Note(labelled.described(examples.name)))
    plan = Plan(
        shapes=tuple(Shape.parse(s) for s in shapes or opened.shapes),
        **{**fields_of(precise, rounds=rounds, processes=processes), "threads": thread_count(threads)},
    )
    file = work / f"examples-{labelled.encoded.digest()[:12]}.npz"
    return Job(
        source=checkpoint,
        data=examples,
        columns=labelled.columns,  # other splits are read by the same ones
        split=split,
        evaluator=Evaluator(opened, labelled, file, plan, events, target, asks_agreement),
        trust_remote_code=trust_remote_code,
        ranges=ranges,
        calibration=None if ranges is None else work / f"calibration-{ranges.digest()[:12]}.npz",
    )


def refuse_both(data: object, unlabelled: object) -> None:
    """Raise RecipeError where data with labels and texts without are given."""
    if data is not None and unlabelled is not None:
        raise RecipeError(
            "Expected data with labels or texts without, received both.",
            hint="With --data accuracy is measured; leave --unlabelled out, or give it with --distill.",
        )
