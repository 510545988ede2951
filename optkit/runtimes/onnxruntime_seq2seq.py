"""ONNX Runtime for a model of two graphs, an encoder and a decoder (`optkit.runtimes.seq2seq`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, first_line
from optkit.runtimes import kv_cache
from optkit.runtimes.base import Feeds
from optkit.runtimes.onnxruntime import OnnxRuntimeSession
from optkit.runtimes.search import Writer, search
from optkit.runtimes.search_settings import SearchSettings
from optkit.runtimes.seq2seq import DECODER, ENCODER, Seq2SeqSession, generation_of, tensor_names
from optkit.runtimes.speech import transcribe

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeSeq2Seq(Seq2SeqSession, OnnxRuntimeSession):
    """Both graphs of one artifact, with the same settings."""

    def _open(self, artifact: Artifact) -> None:
        self._configure(generation_of(artifact), artifact.config)
        self._encoder = self._loaded(artifact.path / ENCODER)
        self._decoder = self._loaded(artifact.path / DECODER)

    def writer(self, feeds: Mapping[str, np.ndarray], copies: int = 1) -> Writer:
        source = self.select(feeds)
        names = [x.name for x in self._encoder.get_outputs()]
        cross = dict(zip(names, _run(self._encoder, source)))
        repeated = {n: np.repeat(a, copies, axis=0) if copies > 1 else a for n, a in cross.items()}
        beside = {n: np.repeat(a, copies, axis=0) for n, a in source.items() if n == "attention_mask"}
        rows = copies * len(next(iter(source.values())))
        return OnnxRuntimeWriter(self._decoder, repeated, beside, rows, self.device)

    def write(self, feeds: Mapping[str, np.ndarray], settings: SearchSettings) -> np.ndarray:
        return search(self.writer(feeds, settings.num_beams), len(feeds["input_ids"]), settings)

    def transcribe(self, features: np.ndarray, asked: np.ndarray, exactly: int | None) -> Feeds:
        assert self.speech is not None
        (name,), beams = (spec.name for spec in self.inputs), self.settings.num_beams
        return transcribe(
            features, asked, self.speech, lambda windows: self.writer({name: windows}, beams), exactly
        )

    def close(self) -> None:
        self._encoder = self._decoder = None


class OnnxRuntimeWriter(Writer):
    """Keys and values stay ONNX Runtime's own from step to step, as in `OnnxRuntimeDecoder`; only beams that
    change their order are copied."""

    def __init__(
        self, session: onnxruntime.InferenceSession, cross: Feeds, beside: Feeds, rows: int, device: str
    ) -> None:
        from onnxruntime import OrtValue

        self._value, self._session, self._device = OrtValue.ortvalue_from_numpy, session, device
        self._beside = beside
        self._cross = {name: self._value(np.ascontiguousarray(a), device) for name, a in cross.items()}
        _, self._past, present = tensor_names(len(cross) // 2)
        self._outputs = ["logits", *present]
        specs = {x.name: x for x in session.get_inputs()}
        self._cache = [self._value(kv_cache.empty(specs[n], rows), device) for n in self._past]

    def step(self, tokens: np.ndarray) -> np.ndarray:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(tokens))
        for name, array in self._beside.items():
            binding.bind_cpu_input(name, array)
        for name, value in (*self._cross.items(), *zip(self._past, self._cache)):
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if name == "logits" else self._device)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as reason:
            raise _cannot(reason) from reason
        logits, *self._cache = binding.get_outputs()
        return logits.numpy()[:, -1].astype(np.float32, copy=False)

    def reorder(self, rows: np.ndarray) -> None:
        if (rows != np.arange(len(rows))).any():
            self._cache = [
                self._value(np.ascontiguousarray(value.numpy()[rows]), self._device) for value in self._cache
            ]


def _run(session: onnxruntime.InferenceSession, feeds: Feeds) -> list[np.ndarray]:
    try:
        outputs: list[np.ndarray] = session.run(None, feeds)
    except Exception as reason:
        raise _cannot(reason) from reason
    return outputs


def _cannot(reason: Exception) -> CheckpointError:
    return CheckpointError(
        f"ONNX Runtime cannot answer with this model: {first_line(reason)}",
        hint="The tokenizer and the graphs do not fit each other, or memory is short.",
    )
