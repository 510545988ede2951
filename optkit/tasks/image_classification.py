"""Image classification: one image → one label, or several, by a ViT or another image model.

Labels, metrics and predictions are those of text classification; only what goes in differs. Images
of a model have one fixed size, so an example has no length that batches could differ in.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data import images
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError
from optkit.models.pixels import PixelEncoder
from optkit.tasks.base import Columns, Field, Labelled, Task
from optkit.tasks.label_columns import REGRESSION
from optkit.tasks.labelled import Input, JsonType
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS
from optkit.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    import datasets


#: Column names looked for, in this order.
COLUMNS = {"text": images.COLUMNS, "label": ("label", "labels", "fine_label", *TEXT_COLUMNS["label"])}
#: Pixels a side of a picture as JSON, some kilobytes, and of what is repeated in a larger one.
STORED, REPEATED = 64, 16


@dataclass
class ImageClassification(TextClassification):
    """`labels` by index, `problem` as transformers calls it; predictions are `Classification`."""

    name: ClassVar[str] = "image-classification"
    architectures: ClassVar[tuple[str, ...]] = ("ForImageClassification",)
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    reads: ClassVar[str] = "pixel_values"
    graph_answers: ClassVar[bool] = False
    asked_last: ClassVar[bool] = False
    columns: ClassVar = COLUMNS
    parts: ClassVar = {**Task.parts, "text": "image"}
    shapes: ClassVar[tuple[str, ...]] = ("1xdata", "8xdata")
    takes: ClassVar[tuple[Field, ...]] = (Field("image", binary=True),)
    needs: ClassVar[tuple[str, ...]] = ("images",)
    encoder: PixelEncoder  # type: ignore[assignment]

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        task = super().from_artifact(artifact, metric)
        if task.problem == REGRESSION:
            raise CheckpointError("Expected a model with at least two labels, received one: a regression.")
        return task

    @staticmethod
    def open_encoder(folder: Path, scoring: object = None) -> PixelEncoder:  # type: ignore[override]
        return PixelEncoder(folder)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """Images as `PixelEncoder` takes them: paths, bytes, Pillow images or arrays."""
        return self.encoder.encode(inputs)

    def json_type(self, text: JsonType) -> JsonType:
        """An image file (PNG, JPEG, ...) in base64."""
        return {"b64": str}

    def from_json(self, value: Json) -> bytes:
        """The bytes of an image file, in base64: {"b64": "..."}. A string would be a path, and is refused."""
        text = value.get("b64") if isinstance(value, dict) else None
        if not isinstance(text, str):
            raise DataError(f'Expected an image as {{"b64": "..."}}, received a {type(value).__name__}.')
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as reason:
            raise DataError(f"Expected an image in base64: {reason}.") from None

    def to_json(self, item: Input) -> Json:
        """An array of pixels as a PNG of its upper left part, of at most `STORED` of them a side.

        Where the model takes one size only, a smaller part is repeated until it has that.
        """
        from PIL import Image

        part = item[:STORED, :STORED]
        if not self.encoder.takes_any_size:
            (height, width), part = self.encoder.size, part[:REPEATED, :REPEATED]
            times = (-(-height // part.shape[0]), -(-width // part.shape[1]), *[1] * (part.ndim - 2))
            part = np.tile(part, times)[:height, :width]
        file = io.BytesIO()
        Image.fromarray(part).save(file, "PNG")
        return {"b64": base64.b64encode(file.getvalue()).decode()}

    def from_fields(self, values: Sequence[Any]) -> bytes:
        """The bytes of an image file as they are, or a text of them in base64."""
        return values[0] if isinstance(values[0], bytes) else self.from_json({"b64": values[0]})

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str | None:
        return None

    @classmethod
    def from_line(cls, line: str) -> Input:
        return line

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
        value = rows[0][name]
        return value is not None and (not isinstance(value, str) or value.lower().endswith(images.ENDINGS))

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        config = super().training_config(rows, columns)
        if config["problem_type"] == REGRESSION:
            raise DataError("Expected a class per image, received numbers with a fraction.")
        return config

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """As many generated pictures: gradients, stripes, discs and noise, in the model's channels."""
        return [picture(i + len(texts) * 1000, self.encoder.channels) for i in range(len(texts))]

    def samples(self) -> Sequence[Input]:
        """Noise of the model's own size, and a black image."""
        size = (*self.encoder.size, self.encoder.channels)
        random = np.random.default_rng(0)
        noise = [random.integers(0, 256, size, dtype=np.uint8) for _ in range(3)]
        return [*noise, np.zeros(size, dtype=np.uint8)]


def picture(seed: int, channels: int) -> np.ndarray:
    """A picture of its own size, (height, width[, channels]) uint8; the same for the same seed."""
    random = np.random.default_rng(seed)
    height, width = random.integers(24, 320, 2)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    a, b, phase, turns = random.uniform(-1, 1, (4, channels))
    waves = np.sin(2 * np.pi * (x[..., None] * a + y[..., None] * b) * (2 + 6 * abs(turns)) + 6 * phase)
    disc = ((x - random.uniform()) ** 2 + (y - random.uniform()) ** 2 < random.uniform(0.01, 0.2))[..., None]
    noise = random.normal(0, random.uniform(0, 0.4), (height, width, channels))
    values = 0.5 + 0.35 * waves + 0.3 * disc * np.sign(a) + noise
    pixels = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


TASK = ImageClassification
