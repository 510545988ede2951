"""Fine-tuning for text classification: a label, several labels, or a number per text."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from optkit.artifact import Artifact
from optkit.data.dataset import class_names
from optkit.errors import DataError
from optkit.models.text import TextEncoder
from optkit.tasks.base import Columns, Labelled, Task
from optkit.tasks.label_mapping import label_name, number
from optkit.tasks.text_classification import MULTI, REGRESSION, SINGLE, TextClassification
from optkit.training.kinds import Kind, labels_config


class TextClassificationKind(Kind):
    auto_class = "AutoModelForSequenceClassification"
    #: The task whose columns are read.
    reads: ClassVar[type[TextClassification]] = TextClassification

    def fits(self, rows: Any, columns: Columns) -> bool:
        """Whether there is a label; what is read for it, `config` says."""
        return columns.label is not None or any(n in rows.column_names for n in self.reads.columns["label"])

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        labels, problem = _labels_of(rows, self.reads.column(rows.column_names, "label", columns))
        return {**labels_config(labels), "problem_type": problem}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        encoder = TextEncoder(source.path)
        encoder.truncate(max_length)
        problem = config["problem_type"]
        labels = list(config["id2label"].values())
        return TextClassification(
            labels, problem, TextClassification.default_metric(problem), encoder, own_labels=True
        )

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        assert isinstance(task, TextClassification)
        kind = np.int64 if task.problem == SINGLE else np.float32
        return {"labels": [np.array(reference, dtype=kind) for reference in labelled.references]}

    def class_counts(self, task: Task, labelled: Labelled) -> np.ndarray | None:
        assert isinstance(task, TextClassification)
        if task.problem != SINGLE:
            return None
        return np.bincount(np.array(labelled.references, dtype=np.int64), minlength=len(task.labels))

    def collate(self, encoded: Any, targets: Any, indices: Any) -> Any:
        batch = encoded.batch(indices)
        return {**batch, **{name: np.stack([rows[i] for i in indices]) for name, rows in targets.items()}}


def _labels_of(rows: Any, name: str) -> tuple[list[str], str]:
    """Label names in order (numbers by size), and the problem type that the values of column `name` imply."""
    values = list(rows[name])
    missing = next((i for i, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise DataError(f"Expected a label in column {name!r}, row {missing}, received none.")
    names = class_names(rows.features.get(name))
    if isinstance(values[0], list):
        labels, problem = list(names or _several(values, name)), MULTI
    elif not names and _is_regression(values):
        labels, problem = ["value"], REGRESSION
    else:
        labels, problem = list(names) if names else _ordered({label_name(v) for v in values}), SINGLE
    seen = {label_name(v) for v in values} if problem != MULTI else set(labels)
    if len(seen) < 2:
        what = "numbers" if problem == REGRESSION else "classes"
        raise DataError(
            f"Expected at least two {what} in column {name!r}, received: {sorted(seen)}.",
            hint="There is nothing to learn from one; check the column and how the splits were made.",
        )
    return labels, problem


def _is_regression(values: list[Any]) -> bool:
    """Whether these are numbers, or the texts of numbers, and some have a fraction."""
    numbers = [number(value) for value in values]
    return None not in numbers and any(not float(x).is_integer() for x in numbers if x is not None)


def _several(values: list[Any], name: str) -> list[str]:
    """Labels of rows with lists: names or indices, or one 0/1 flag per label."""
    if {v for value in values for v in value} <= {0, 1} and max(map(len, values)) > 2:  # no list of indices
        count = len(values[0])
        for row, value in enumerate(values):
            if len(value) != count:
                raise DataError(
                    f"Expected {count} flags, as in row 0, in column {name!r}, row {row}, received "
                    f"{len(value)}."
                )
        return [str(i) for i in range(count)]
    return _ordered({label_name(v) for value in values for v in value})


def _ordered(labels: set[str]) -> list[str]:
    numbers = all(label.isdigit() for label in labels)
    return sorted(labels, key=int) if numbers else sorted(labels)


KIND = TextClassificationKind()
