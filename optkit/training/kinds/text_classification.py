"""Fine-tuning for text classification: a label, several labels, or a number per text."""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.data import column
from optkit.errors import DataError
from optkit.task import Columns, Labelled, Task
from optkit.tasks.text_classification import COLUMNS, MULTI, REGRESSION, SINGLE, TextClassification
from optkit.text import TextEncoder
from optkit.training.kinds import Kind, labels_config


class TextClassificationKind(Kind):
    auto_class = "AutoModelForSequenceClassification"

    def fits(self, rows: Any, columns: Columns) -> bool:
        return True

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        labels, problem = _labels_of(rows, columns)
        return {**labels_config(labels), "problem_type": problem}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        encoder = TextEncoder(source.path)
        encoder.truncate(max_length)
        problem = config["problem_type"]
        labels = list(config["id2label"].values())
        return TextClassification(labels, problem, TextClassification.default_metric(problem), encoder)

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


def _labels_of(rows: Any, columns: Columns) -> tuple[list[str], str]:
    """Label names in sorted order, and the problem type that the label column's values imply."""
    name = column(rows, columns.label, COLUMNS["label"], "label", "--label-column")
    values = list(rows[name])
    names = getattr(rows.features.get(name), "names", None)
    if names:
        return list(names), SINGLE
    if isinstance(values[0], list):
        labels, problem = sorted({str(v) for value in values for v in value}), MULTI
    elif any(isinstance(v, float) and v != int(v) for v in values):
        return ["value"], REGRESSION
    else:
        labels, problem = sorted({str(v) for v in values}), SINGLE
    if len(labels) < 2:
        raise DataError(f"Expected at least two classes in column {name!r}, received: {labels}.")
    return labels, problem


KIND = TextClassificationKind()
