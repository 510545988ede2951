"""CTC models, as AutomaticSpeechRecognitionPipeline runs them with chunk_length_s=30."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.audio_classification import SoundReference
from optkit.benchmarking.reference.base import Outputs

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input

#: Seconds of a window and of the pipeline's usual stride: a sixth.
WINDOW_S, STRIDE_S = 30, 5


class SpeechRecognition(SoundReference):
    """Windows, strides and the rounding of both are transformers' own functions, the text its tokenizer's."""

    auto = "AutoModelForCTC"

    def load(self) -> None:
        from transformers import AutoTokenizer

        super().load()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(self.folder), **self.trusted)
        self.ratio = self.model.config.inputs_to_logits_ratio

    def features(self, file: str) -> np.ndarray:
        return self._windows(file)[0][0]

    def rows(self, inputs: Sequence[Input]) -> list[np.ndarray]:
        windows = [(i, *window) for i, file in enumerate(inputs) for window in self._windows(file)]
        self.owner = [i for i, _, _ in windows]
        self.strides = [stride for _, _, stride in windows]
        return [values for _, values, _ in windows]

    def _windows(self, file: str) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
        from transformers.pipelines.automatic_speech_recognition import chunk_iter

        rate = self.processor.sampling_rate
        length, stride = (int(round(s * rate / self.ratio) * self.ratio) for s in (WINDOW_S, STRIDE_S))
        parts = chunk_iter(self.waveform(file), self.processor, length, stride, stride)
        return [(np.asarray(part[self.feature][0]), part["stride"]) for part in parts]

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        from transformers.pipelines.automatic_speech_recognition import rescale_stride

        answered = super().outputs(rows, inputs, alone)["logits"]
        chunks: list[list[np.ndarray]] = [[] for _ in inputs]
        for i, logits, stride in zip(self.owner, answered, rescale_stride(self.strides, 1 / self.ratio)):
            total, left, right = stride
            chunks[i].append(logits[left : total - right])
        return {"logits": [np.concatenate(parts) for parts in chunks]}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> list[Json]:
        return [self.tokenizer.decode(row.argmax(axis=-1)) for row in outputs["logits"]]


REFERENCE = SpeechRecognition
