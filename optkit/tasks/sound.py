"""`SoundInput`: what tasks that read audio have in common: how it comes in, and how it is trained on."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.reading import Json
from optkit.data import audio
from optkit.data.examples import EncodedSet
from optkit.models.sound import SoundEncoder, samples_for
from optkit.tasks.base import Columns, Field, Task
from optkit.tasks.files import FileInputs
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    import datasets


#: Samples of a sound as JSON: more would not fit beside others in the stored answers of an artifact.
STORED = 10_000


class SoundInput(FileInputs, Task):
    """An input is a path, the bytes of a file, samples (samples,) at the model's rate, or a dictionary of an
    `array` and its `sampling_rate`."""

    expected, noun = "audio", "sound"
    reads: ClassVar[tuple[str, ...]] = ("input_values", "input_features")
    trained_with: ClassVar[tuple[str, ...]] = ("attention_mask",)
    parts: ClassVar[Mapping[str, str]] = {**Task.parts, "text": "audio"}
    shapes: ClassVar[tuple[str, ...]] = ("1xdata",)
    takes: ClassVar[tuple[Field, ...]] = (Field("audio", binary=True),)
    needs: ClassVar[tuple[str, ...]] = ("audio",)
    encoder: SoundEncoder

    @staticmethod
    def open_encoder(folder: Path, scoring: Any = None) -> Any:
        return SoundEncoder(folder)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        return self.encoder.encode(inputs)

    def to_json(self, item: Input) -> Json:
        """The first samples of a sound, at most `STORED`, as a WAV file in base64."""
        values = self.encoder.samples(item)[:STORED]
        return {"b64": base64.b64encode(audio.wav(values, self.encoder.rate)).decode()}

    @classmethod
    def holds_audio(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Whether the data has a column of audio: one of its names, and no path of another kind in it."""
        name = columns.text or next((n for n in cls.columns["text"] if n in rows.column_names), None)
        if name not in rows.column_names:
            return False
        value = rows[0][name]
        if isinstance(value, str):
            return value.lower().endswith(audio.ENDINGS)
        return value is not None and (name == "audio" or (isinstance(value, dict) and "array" in value))

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """As many made sounds, as the bytes of files: see `optkit.data.audio.clip`."""
        return [self._made(i + len(texts) * 1000) for i in range(len(texts))]

    def samples(self) -> Sequence[Input]:
        """Three sounds of different lengths, and the shortest that the model takes, silent."""
        silence = np.zeros(max(self.encoder.least, 1), dtype=np.float32)
        return [*(self._made(i) for i in range(3)), silence]

    def _made(self, seed: int) -> bytes:
        return audio.wav(audio.clip(seed, self.encoder.rate), self.encoder.rate)

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """Sounds of unequal lengths are filled with zeros, as transformers' examples train: with a mask where
        the model was made for one (feat_extract_norm `layer`), else without. No batch is shorter than what is
        masked at random in training."""
        config = self.encoder.config
        batch = super().collate(encoded, targets, indices)
        if not encoded.is_sound or len(indices) == 1:
            return batch
        lengths = encoded.lengths[list(indices)]
        least = samples_for(config, int(config.get("mask_time_length") or 10) + 1)
        values = batch["input_values"]
        values = np.pad(values, ((0, 0), (0, max(0, least - values.shape[1]))))
        masked = config.get("feat_extract_norm") == "layer"
        mask = np.arange(values.shape[1])[None] < np.maximum(lengths, 1)[:, None]
        return {
            **batch,
            "input_values": values,
            **({"attention_mask": mask.astype(np.int64)} if masked else {}),
        }
