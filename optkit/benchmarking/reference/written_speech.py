"""Whisper as `generate` of transformers writes it, one sound at a time, and its tokenizer's words.

AutomaticSpeechRecognitionPipeline would search with 5 beams where generation_config.json names no number;
`generate` does as the file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.audio_classification import SoundReference
from optkit.benchmarking.reference.base import Outputs

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class WrittenSpeech(SoundReference):
    """What is longer than the feature extractor's window is read whole, and written with timestamps."""

    auto = "AutoModelForSpeechSeq2Seq"

    def load(self) -> None:
        from transformers import AutoTokenizer

        super().load()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(self.folder), **self.trusted)

    def features(self, file: str) -> np.ndarray:
        values, rate = self.waveform(file), self.processor.sampling_rate
        long = {"truncation": False, "padding": "longest"} if len(values) > self.processor.n_samples else {}
        read = self.processor(values, sampling_rate=rate, return_tensors="np", **long)
        return np.asarray(read[self.feature][0])

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        import torch

        sequences, segments = [], []
        for row in rows:
            long = {"return_timestamps": True} if row.shape[1] > self.processor.nb_max_frames else {}
            features = torch.from_numpy(row[None]).to(self.device)
            with torch.inference_mode():
                said = self.model.generate(features, return_segments=True, **long)["segments"][0]
            texts = [segment["tokens"].tolist() for segment in said]
            times = [(float(segment["start"]), float(segment["end"])) for segment in said]
            sequences.append(np.array([token for text in texts for token in text], dtype=np.int64))
            found = [(round(100 * a), round(100 * b), len(text)) for (a, b), text in zip(times, texts)]
            segments.append(np.array(found, dtype=np.int64).reshape(-1, 3))
            self.progress(len(sequences))
        return {"sequences": sequences, "segments": segments}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> list[Json]:
        texts = [row.tolist() for row in outputs["sequences"]]
        return [text.strip() for text in self.tokenizer.batch_decode(texts, skip_special_tokens=True)]


REFERENCE = WrittenSpeech
