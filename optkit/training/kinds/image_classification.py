"""Fine-tuning for image classification: a label, or several, per image."""

from __future__ import annotations

from typing import Any

from optkit.artifact import Artifact
from optkit.data import images
from optkit.errors import DataError
from optkit.models.pixels import PixelEncoder
from optkit.tasks.base import Columns, Task
from optkit.tasks.image_classification import ImageClassification
from optkit.tasks.text_classification import REGRESSION
from optkit.training.kinds.text_classification import TextClassificationKind


class ImageClassificationKind(TextClassificationKind):
    """As for text; only the head's class and what reads an example differ."""

    auto_class = "AutoModelForImageClassification"
    reads = ImageClassification

    def fits(self, rows: Any, columns: Columns) -> bool:
        known = ImageClassification.columns["text"]
        name = columns.text or next((n for n in known if n in rows.column_names), None)
        if name not in rows.column_names:
            return False
        value = rows[0][name]
        return value is not None and (not isinstance(value, str) or value.lower().endswith(images.ENDINGS))

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        config = super().config(rows, columns)
        if config["problem_type"] == REGRESSION:
            raise DataError("Expected a class per image, received numbers with a fraction.")
        return config

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        problem, labels = config["problem_type"], list(config["id2label"].values())
        metric = ImageClassification.default_metric(problem)
        return ImageClassification(labels, problem, metric, PixelEncoder(source.path), own_labels=True)


KIND = ImageClassificationKind()
