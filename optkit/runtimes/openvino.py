"""OpenVINO on the CPU: the engine that is often faster at long inputs; serves its own IR and plain ONNX."""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core import cpu
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, OptkitError, did_you_mean
from optkit.runtimes import kv_cache as caches
from optkit.runtimes import openvino_stateful
from optkit.runtimes.base import Decoder, Feeds, Session, Setting, TensorSpec
from optkit.runtimes.settings import COUNTS
from optkit.runtimes.towers import IMAGE
from optkit.runtimes.vino_core import core, why_not_bf16

if TYPE_CHECKING:
    import openvino


PRECISIONS = ("f32", "bf16", "f16")
KV_CACHES = ("f32", "f16", "u8", "u4")
ACTIVATIONS = ("int8", "float")
HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
_NUMPY = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32"}


class OpenVinoSession(Session):
    """An OpenVINO model (.xml with .bin) or a plain ONNX graph, compiled for the CPU.

    `threads` (None: the library's choice) bounds the threads of all streams together; `streams`
    (None: what `hint` asks for) are requests that run at once; `precision` is what floating-point
    operators compute in: f32, since left alone OpenVINO takes bf16 where the CPU has it, and answers
    change; `cache_dir` keeps the compiled model, so that the next load is quicker; `hyper_threading` lets
    both threads of a core work. INT8 operators stay INT8 under every `precision`.
    Of language models: `kv_cache` is what keys and values are stored in, and `activations` what is multiplied
    with weights in few bits: int8 (rounded in groups of 32 on the way) or float.

    May be called from several threads: each call takes an idle request, or makes one.
    """

    package: ClassVar[str] = "openvino"
    extra: ClassVar[str] = "openvino"
    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {
        "threads": COUNTS,
        "streams": COUNTS,
        "precision": PRECISIONS,
        "hint": HINTS,
        "hyper_threading": (True, False),
        "kv_cache": KV_CACHES,
        "activations": ACTIVATIONS,
    }

    @classmethod
    def on_this_machine(cls, artifact: Artifact, stored: dict[str, Any]) -> dict[str, Any]:
        """bf16 becomes f32 where nobody compared the two on this CPU, and a line says so."""
        if stored.get("precision") != "bf16":
            return stored
        proven_on = [step.get("notes", {}).get("bf16_proven_on") for step in artifact.lineage]
        if not (why := why_not_bf16(proven_on)):
            return stored
        logging.getLogger("optkit").warning(
            "%s computes in f32 in place of bf16 on this CPU (%s): %s", artifact.path, cpu.model(), why
        )
        return {**stored, "precision": "f32"}

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None = None,
        streams: int | None = None,
        precision: str = "f32",
        hint: str = "LATENCY",
        cache_dir: str | None = None,
        hyper_threading: bool = False,
        kv_cache: str | None = None,
        activations: str | None = None,
    ) -> None:
        self.precision = precision
        settings = _settings(threads, streams, precision, hint, cache_dir, hyper_threading)
        if kv_cache:
            settings["KV_CACHE_PRECISION"] = kv_cache
        if activations:
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 32 if activations == "int8" else 0
        file = self._file(artifact)
        try:
            model = core().read_model(str(file))
            # Compiling gives an output the names of the operators that it is folded into, too.
            self._stateful = openvino_stateful.is_stateful(model)
            if self._stateful:
                openvino_stateful.keep_places(model)
            names = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
            self._model: openvino.CompiledModel = core().compile_model(model, "CPU", settings)
        except Exception as reason:
            raise CheckpointError(
                f"OpenVINO cannot load {str(file)!r}: {_first_line(reason)}",
                hint='ONNX Runtime\'s own operators are not standard ONNX: run the pass "open-vino" first, '
                'or export with attention = "plain".',
            ) from reason
        inputs = map(_spec, self._model.inputs, names[0])
        self.inputs = tuple(
            x for x in inputs if not self._stateful or x.name not in openvino_stateful.IMPLIED
        )
        self.outputs = tuple(map(_spec, self._model.outputs, names[1]))
        self._idle: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()

    def _file(self, artifact: Artifact) -> Path:
        return model_file(artifact)

    @property
    def compiled(self) -> openvino.CompiledModel:
        """The compiled model, for what asks it about its kernels."""
        return self._model

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        selected = self.select(feeds)
        if self._model is None:
            raise OptkitError("This session is closed.")
        request = self._take()
        if self._stateful:  # a whole text, from its beginning
            decoder = openvino_stateful.StatefulDecoder(request, self._idle)
            return {self.outputs[0].name: decoder.logits(selected, feeds.get(caches.KEEP))}
        try:
            # Results are copied out: the request's own buffers are written again by its next call.
            try:
                values = request.infer(selected, share_inputs=True, share_outputs=False)
            except Exception as reason:
                raise CheckpointError(
                    f"OpenVINO cannot answer with this model: {_first_line(reason)}",
                    hint="The tokenizer and the graph do not fit each other, or memory is short.",
                ) from reason
            return {spec.name: values[i] for i, spec in enumerate(self.outputs)}
        finally:
            self._idle.put(request)

    def decoder(self) -> Decoder:
        if not self._stateful:
            return super().decoder()
        return openvino_stateful.StatefulDecoder(self._take(), self._idle)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait()
        self._model = None

    def _take(self) -> openvino.InferRequest:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._model.create_infer_request()


def open_session(artifact: Artifact, **options: Setting) -> OpenVinoSession:
    if model_files(artifact, IMAGE):
        from optkit.runtimes.openvino_towers import OpenVinoTowers

        return OpenVinoTowers(artifact, **options)
    return OpenVinoSession(artifact, **options)


def _settings(
    threads: int | None, streams: int | None, precision: str, hint: str, cache_dir: str | None, hyper: bool
) -> dict[str, Any]:
    if precision not in PRECISIONS:
        raise OptkitError(
            f"Expected precision to be one of {', '.join(PRECISIONS)}, received {precision!r}.",
            hint=did_you_mean(precision, PRECISIONS),
        )
    if hint.upper() not in HINTS:
        raise OptkitError(
            f"Expected hint to be one of {', '.join(HINTS)}, received {hint!r}.",
            hint=did_you_mean(hint.upper(), HINTS),
        )
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint.upper()}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    if streams:
        settings["NUM_STREAMS"] = streams
    if hyper:
        settings["ENABLE_HYPER_THREADING"] = True
    if cache_dir:
        settings["CACHE_DIR"] = cache_dir
    return settings


def model_files(artifact: Artifact, graph: str | None = None) -> list[Path]:
    """The models in `artifact` that OpenVINO reads; of several that made of the `graph` of this name."""
    suffix = ".xml" if artifact.format == "openvino" else ".onnx"
    files = [file for file in artifact.model_files if file.suffix == suffix]
    return [file for file in files if graph is None or file.stem == Path(graph).stem]


def model_file(artifact: Artifact, graph: str | None = None) -> Path:
    """The only one of `model_files`. Raises CheckpointError where there are others or none."""
    suffix = ".xml" if artifact.format == "openvino" else ".onnx"
    files = model_files(artifact, graph)
    if len(files) != 1:
        raise CheckpointError(f"Expected one {suffix} file in {str(artifact.path)!r}, found {len(files)}.")
    return files[0]


def _spec(port: openvino.Output, name: str) -> TensorSpec:
    kind = port.get_element_type().get_type_name()
    shape = port.get_partial_shape()
    words = ("batch", "sequence")
    sizes = tuple(
        (words[i] if i < len(words) else f"d{i}") if d.is_dynamic else d.get_length()
        for i, d in enumerate(shape)
    )
    return TensorSpec(name, _NUMPY.get(kind, kind), sizes)


def _first_line(reason: Exception) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return " ".join(lines[-2:])[:400] if lines else type(reason).__name__
