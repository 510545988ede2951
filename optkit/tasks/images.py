"""What tasks whose inputs are images have in common: files, requests, generated pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from optkit.core.reading import Json
from optkit.data.examples import EncodedSet, Windows
from optkit.errors import CheckpointError
from optkit.models.pixels import PixelEncoder
from optkit.tasks import drawings
from optkit.tasks.base import Field, Task
from optkit.tasks.files import FileInputs
from optkit.tasks.labelled import Answer, Input

#: Pixels a side of a picture as JSON, some kilobytes, and of what is repeated in a larger one.
STORED, REPEATED = 64, 16


class ImageInputs(FileInputs):
    """A task's inputs, where each is one image. Comes before `Task` in a class's bases."""

    expected, noun = "an image", "image"
    reads: ClassVar[str | tuple[str, ...]] = "pixel_values"
    parts: ClassVar[Mapping[str, str]] = {**Task.parts, "text": "image"}
    shapes: ClassVar[tuple[str, ...]] = ("1xdata", "8xdata")
    takes: ClassVar[tuple[Field, ...]] = (Field("image", binary=True),)
    needs: ClassVar[tuple[str, ...]] = ("images",)
    encoder: PixelEncoder

    @property
    def any_size(self) -> bool:
        return self.encoder.varies

    @staticmethod
    def encoder_of(folder: Path, families: Sequence[str], answers: str) -> PixelEncoder:
        """The encoder of a processor of one of these `families`. Raises CheckpointError for another."""
        encoder = PixelEncoder(folder)
        if encoder.family not in families:
            raise CheckpointError(
                f"Expected an image processor of {', '.join(families)}, received {encoder.family}: how its "
                f"{answers} are read is not known.",
                hint="Save the processor that the model was trained with beside it.",
            )
        return encoder

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """Images as `PixelEncoder` takes them: paths, bytes, Pillow images or arrays."""
        return self.encoder.encode(inputs)

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
        Image.fromarray(part[..., 0] if part.ndim == 3 and part.shape[2] == 1 else part).save(file, "PNG")
        return {"b64": base64.b64encode(file.getvalue()).decode()}

    def drawn(self, item: Input, reference: Answer, before: Answer, after: Answer) -> dict[str, Json]:
        return {"pictures": [drawings.picture("", drawings.thumbnail(item)[0])]}

    def sized(self, inputs: Sequence[Input], rows: int) -> EncodedSet:
        """As `encode`; each image's own (height, width) is carried beside its outputs, of so many `rows`."""
        read = [self.encoder.read(item, i) for i, item in enumerate(inputs)]
        sizes = [np.array(size, dtype=np.int64) for _, size in read]
        every = [np.arange(rows)] * len(read)
        windows = Windows(np.arange(len(read)), every, {"size": sizes}) if read else None
        return EncodedSet({"pixel_values": [values for values, _ in read]}, {}, windows=windows)

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """As many generated pictures: gradients, stripes, discs and noise, in the model's channels."""
        return [picture(i + len(texts) * 1000, self.encoder.channels) for i in range(len(texts))]

    def samples(self) -> Sequence[Input]:
        """Noise of the model's own size, and a black image; where sizes vary, one is wide and one is high."""
        height, width = self.encoder.size
        longer = (height * 3 // 2, width * 3 // 2) if self.encoder.varies else (height, width)
        sizes = [(height, width), (height, longer[1]), (longer[0], width)]
        random, channels = np.random.default_rng(0), self.encoder.channels
        noise = [random.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]
        return [*noise, np.zeros((height, width, channels), dtype=np.uint8)]


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
