"""Image classification: one image → one label, or several, by a ViT or another image model.

Labels, metrics and predictions are those of text classification; only what goes in differs. Images
of a model have one fixed size, so an example has no length that batches could differ in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from optkit.data import images, masks
from optkit.errors import CheckpointError
from optkit.models.pixels import PixelEncoder
from optkit.tasks.base import Columns
from optkit.tasks.files import FileClassification
from optkit.tasks.images import ImageInputs
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS

if TYPE_CHECKING:
    import datasets


#: Column names looked for, in this order.
COLUMNS = {"text": images.COLUMNS, "label": ("label", "labels", "fine_label", *TEXT_COLUMNS["label"])}


@dataclass
class ImageClassification(ImageInputs, FileClassification):
    """`labels` by index, `problem` as transformers calls it; predictions are `Classification`."""

    name: ClassVar[str] = "image-classification"
    architectures: ClassVar[tuple[str, ...]] = ("ForImageClassification",)
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    columns: ClassVar = COLUMNS
    encoder: PixelEncoder  # type: ignore[assignment]

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
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        name = columns.text or next((n for n in cls.columns["text"] if n in rows.column_names), None)
        if name not in rows.column_names:
            return False
        label = columns.label or next((n for n in cls.columns["label"] if n in rows.column_names), None)
        if label not in rows.column_names or masks.is_mask(rows[0][label]):
            return False
        value = rows[0][name]
        return value is not None and (not isinstance(value, str) or value.lower().endswith(images.ENDINGS))


TASK = ImageClassification
