"""What models are measured on: data with labels, or inputs without, on which answers are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optkit.artifact import Artifact
from optkit.benchmarking.unlabelled import MEASURED, OWN, Unlabelled, built_in_for, read
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, RecipeError
from optkit.events import Events, Note
from optkit.tasks.base import Columns, Labelled, Task
from optkit.training.provenance import origin


@dataclass(frozen=True)
class Examples:
    """`labelled`, of `source`, is what models are measured on; `ranges`, where it has no labels, what ranges
    are taken from."""

    task: Task
    source: Data | Unlabelled
    labelled: Labelled
    ranges: EncodedSet | None = None


def refuse_both(data: object, unlabelled: object) -> None:
    """Raise RecipeError where data with labels and texts without are given."""
    if data is not None and unlabelled is not None:
        raise RecipeError(
            "Expected data with labels or texts without, received both.",
            hint="With --data accuracy is measured; leave --unlabelled out, or give it with --distill.",
        )


def examples_of(
    checkpoint: Artifact,
    data: str | Path | None,
    unlabelled: str | Path | None,
    task: Task,
    columns: Columns,
    split: str,
    limit: int | None,
    metric: str | None,
    events: Events,
) -> Examples:
    """The split of `data`, else of the data that the checkpoint names, else inputs without labels.

    Raises DataError, RecipeError for data with labels and texts without at once.
    """
    refuse_both(data, unlabelled)
    source = None if data is None else Data(str(data))
    if data is None and unlabelled is None:
        known = origin(checkpoint)
        events(Note(known.said))
        if known.name is not None:
            source, columns = Data(known.name), columns if columns != Columns() else known.columns
    if source is not None:
        labelled = task.read(source.split(split, limit), columns)
        events(Note(labelled.described(source.name, split)))
        return Examples(task, source, labelled)
    if metric is not None:
        raise DataError(
            f"Expected data with labels for the metric {metric}, received none.",
            hint="Give --data, or leave --metric out: answers are compared with the model's own.",
        )
    found = built_in_for(task, limit) if unlabelled is None else read(str(unlabelled), task, columns, limit)
    events(Note(MEASURED.format(OWN, found.name)))
    labelled = found.labelled(task)
    if unlabelled is not None:
        events(Note(labelled.described(found.name)))
    return Examples(task, found, labelled, found.ranges(task))
