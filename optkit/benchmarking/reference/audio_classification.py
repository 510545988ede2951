"""Classifiers of audio, as AudioClassificationPipeline runs them: one sound at a time, never padded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.files import FileReference
from optkit.benchmarking.reference.text_classification import TextClassification
from optkit.data import provoking

if TYPE_CHECKING:
    from optkit.tasks.labelled import Input


class SoundReference(FileReference):
    """`AutoFeatureExtractor` over files that soundfile reads, mixed down and resampled as librosa does it.

    The pipeline itself has ffmpeg for this, which is no library.
    """

    def load(self) -> None:
        from transformers import AutoFeatureExtractor

        super().load()
        self.processor = AutoFeatureExtractor.from_pretrained(str(self.folder), **self.trusted)
        self.feature = self.model.main_input_name

    def waveform(self, file: str) -> np.ndarray:
        """Shape (samples,), at the rate of the feature extractor."""
        import soundfile
        import soxr

        values, rate = soundfile.read(file, dtype="float32", always_2d=True)
        mixed = values.mean(axis=1)
        wanted = self.processor.sampling_rate
        return mixed if rate == wanted else soxr.resample(mixed, rate, wanted, quality="HQ")

    def features(self, file: str) -> np.ndarray:
        rate = self.processor.sampling_rate
        return np.asarray(
            self.processor(self.waveform(file), sampling_rate=rate, return_tensors="np")[self.feature][0]
        )

    def provoking(self) -> Iterable[tuple[str, bytes]]:
        return provoking.sounds()

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        import torch

        logits: list[np.ndarray] = []
        with torch.inference_mode():
            for row in rows:
                feeds = {self.feature: torch.from_numpy(row[None]).to(self.device)}
                logits.append(self.model(**feeds).logits[0].float().cpu().numpy())
                self.progress(len(logits))
        return {"logits": logits}


class AudioClassification(SoundReference):
    auto = "AutoModelForAudioClassification"
    answers = TextClassification.answers


REFERENCE = AudioClassification
