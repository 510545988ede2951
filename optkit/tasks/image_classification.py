"""Image classification: one image → one label, or several, by a ViT or another image model.

Labels, metrics and predictions are those of text classification; only what goes in differs. Images
of a model have one fixed size, so an example has no length that batches could differ in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from optkit.core.artifact import Artifact
from optkit.data import images, masks
from optkit.errors import CheckpointError, DataError
from optkit.models.pixels import PixelEncoder
from optkit.tasks.base import Columns, Labelled
from optkit.tasks.images import ImageInputs
from optkit.tasks.label_columns import REGRESSION
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS
from optkit.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    import datasets


#: Column names looked for, in this order.
COLUMNS = {"text": images.COLUMNS, "label": ("label", "labels", "fine_label", *TEXT_COLUMNS["label"])}


@dataclass
class ImageClassification(ImageInputs, TextClassification):
    """`labels` by index, `problem` as transformers calls it; predictions are `Classification`."""

    name: ClassVar[str] = "image-classification"
    sentence_transformers: ClassVar[str] = ""
    architectures: ClassVar[tuple[str, ...]] = ("ForImageClassification",)
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    graph_answers: ClassVar[bool] = False
    asked_last: ClassVar[bool] = False
    columns: ClassVar = COLUMNS
    encoder: PixelEncoder  # type: ignore[assignment]

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        task = super().from_artifact(artifact, metric)
        if task.problem == REGRESSION:
            raise CheckpointError("Expected a model with at least two labels, received one: a regression.")
        return task

    @staticmethod
    def open_encoder(folder: Path, scoring: object = None) -> PixelEncoder:  # type: ignore[override]
        encoder = PixelEncoder(folder)
        if encoder.varies:
            raise CheckpointError(
                f"Expected an image processor that gives images of one size, received {encoder.family}'s, "
                "whose sizes vary.",
                hint="Save the processor that the model was trained with beside it.",
            )
        return encoder

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str | None:
        return None

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        references = self.references(rows, label)
        inputs = list(rows[name])
        sources = [x if isinstance(x, str) else f"image {i}" for i, x in enumerate(inputs)]
        return Labelled(self.encode(inputs), references, sources, inputs, columns=Columns(name, None, label))

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        name = columns.text or next((n for n in cls.columns["text"] if n in rows.column_names), None)
        if name not in rows.column_names:
            return False
        label = columns.label or next((n for n in cls.columns["label"] if n in rows.column_names), None)
        if label not in rows.column_names or masks.is_mask(rows[0][label]):
            return False
        value = rows[0][name]
        return value is not None and (not isinstance(value, str) or value.lower().endswith(images.ENDINGS))

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        config = super().training_config(rows, columns)
        if config["problem_type"] == REGRESSION:
            raise DataError("Expected a class per image, received numbers with a fraction.")
        return config


TASK = ImageClassification
