"""ONNX Runtime: the portable engine, and the default for `onnx` artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, MissingDependency, OptkitError, first_line
from optkit.runtimes import kv_cache
from optkit.runtimes.base import Decoder, Feeds, Session, Setting, TensorSpec
from optkit.runtimes.seq2seq import DECODER
from optkit.runtimes.settings import COUNTS
from optkit.runtimes.towers import IMAGE

if TYPE_CHECKING:
    import onnxruntime


_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
_LEVELS = ("disabled", "basic", "extended", "all")


class OnnxRuntimeSession(Session):
    """An ONNX graph on the CPU, or with provider "cuda" on a GPU.

    `threads` (None: the library's choice) bounds those of one operator; `spinning` lets them wait busily
    for the next one (faster alone, ruinous beside others); `arena` keeps freed memory for reuse;
    `optimization` is the graph optimization level: disabled, basic, extended or all; `prepacking` lays
    weights out for the kernels at load, which takes memory.
    """

    package: ClassVar[str] = "onnxruntime"
    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {
        "threads": COUNTS,
        "spinning": (True, False),
        "arena": (True, False),
        "optimization": _LEVELS,
        "prepacking": (True, False),
        "provider": ("cpu", "cuda"),
    }

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None = None,
        spinning: bool = True,
        arena: bool = True,
        optimization: str = "all",
        prepacking: bool = True,
        provider: str = "cpu",
    ) -> None:
        import onnxruntime

        providers = _providers(provider, onnxruntime.get_available_providers())

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or 0
        settings.log_severity_level = 3
        settings.enable_cpu_mem_arena = arena
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        if not prepacking:
            settings.add_session_config_entry("session.disable_prepacking", "1")
        levels = onnxruntime.GraphOptimizationLevel
        if optimization not in _LEVELS:
            raise OptkitError(f"Expected optimization to be one of {_LEVELS}, received {optimization!r}.")
        settings.graph_optimization_level = getattr(
            levels,
            "ORT_ENABLE_ALL" if optimization == "all" else _level_name(optimization),
        )
        self.device, self._providers, self._settings = provider, providers, settings
        self._open(artifact)

    def _open(self, artifact: Artifact) -> None:
        graphs = [f for f in artifact.model_files if f.suffix == ".onnx"]
        if len(graphs) != 1:
            raise CheckpointError(f"Expected one .onnx file in {str(artifact.path)!r}, found {len(graphs)}.")
        self._session = self._loaded(graphs[0])
        self._inputs = tuple(_spec(x) for x in self._session.get_inputs())
        outputs = (_spec(x) for x in self._session.get_outputs())
        self.inputs = tuple(x for x in self._inputs if not kv_cache.is_implied(x.name))
        self.outputs = tuple(x for x in outputs if not x.name.startswith(kv_cache.PRESENT))

    def _loaded(self, file: Path) -> onnxruntime.InferenceSession:
        """The graph in `file`, ready to run. Raises CheckpointError, OptkitError."""
        import onnxruntime

        try:
            session = onnxruntime.InferenceSession(str(file), self._settings, providers=self._providers)
        except Exception as reason:
            raise CheckpointError(f"ONNX Runtime cannot load {str(file)!r}: {first_line(reason)}") from reason
        used = session.get_providers()[0]
        if used != self._providers[0]:  # ONNX Runtime falls back to the CPU with no more than a log line
            raise OptkitError(
                f"Expected ONNX Runtime to run on {self._providers[0]}, received {used}.",
                hint="Check nvidia-smi, and that CUDA and cuDNN fit this onnxruntime-gpu.",
            )
        return session

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        whole = kv_cache.completed(self.select(feeds), self._inputs)
        try:
            values = self._session.run([spec.name for spec in self.outputs], whole)
        except Exception as reason:  # the library's own classes, which say no more than their text
            raise CheckpointError(
                f"ONNX Runtime cannot answer with this model: {first_line(reason)}",
                hint="The tokenizer and the graph do not fit each other, or memory is short.",
            ) from reason
        return {spec.name: value for spec, value in zip(self.outputs, values)}

    def decoder(self) -> Decoder:
        if not any(spec.name.startswith(kv_cache.PAST) for spec in self._inputs):
            return super().decoder()
        return OnnxRuntimeDecoder(self._session, self._inputs, self.device)

    def close(self) -> None:
        self._session = None


class OnnxRuntimeDecoder(Decoder):
    """A graph with a cache. Keys and values stay ONNX Runtime's own from step to step (IO binding): they are
    never turned into numpy arrays, and on a GPU never leave it."""

    def __init__(
        self, session: onnxruntime.InferenceSession, inputs: tuple[TensorSpec, ...], device: str
    ) -> None:
        self._session, self._inputs, self._device = session, {x.name: x for x in inputs}, device
        self._past = [name for name in self._inputs if name.startswith(kv_cache.PAST)]
        self._outputs = ["logits", *(kv_cache.PRESENT + n[len(kv_cache.PAST) :] for n in self._past)]
        self._cache: list[np.ndarray] = []

    def step(self, tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        feeds = {
            "input_ids": tokens,
            "attention_mask": attention_mask,
            kv_cache.POSITIONS: kv_cache.positions(attention_mask, tokens.shape[1]),
            kv_cache.KEEP: np.array([-1], dtype=np.int64),
        }
        for name in self._inputs:
            if name in feeds:
                binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        if not self._cache:
            nothing = [kv_cache.empty(self._inputs[name], len(tokens)) for name in self._past]
            self._cache = [OrtValue.ortvalue_from_numpy(value, self._device) for value in nothing]
        for name, value in zip(self._past, self._cache):
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if name == "logits" else self._device)
        self._session.run_with_iobinding(binding)
        logits, *self._cache = binding.get_outputs()
        return logits.numpy()[:, -1].astype(np.float32, copy=False)


def open_session(artifact: Artifact, **options: Setting) -> OnnxRuntimeSession:
    if (artifact.path / DECODER).exists():
        from optkit.runtimes.onnxruntime_seq2seq import OnnxRuntimeSeq2Seq

        return OnnxRuntimeSeq2Seq(artifact, **options)
    if (artifact.path / IMAGE).exists():
        from optkit.runtimes.onnxruntime_towers import OnnxRuntimeTowers

        return OnnxRuntimeTowers(artifact, **options)
    return OnnxRuntimeSession(artifact, **options)


def _providers(provider: str, available: list[str]) -> list[str]:
    """ONNX Runtime's execution providers for `cpu` or `cuda`."""
    if provider not in ("cpu", "cuda"):
        raise OptkitError(f"Expected provider to be cpu or cuda, received {provider!r}.")
    if provider == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise MissingDependency(
            "This onnxruntime has no CUDA provider.",
            hint='pip uninstall onnxruntime, then: pip install "optkit[gpu]"',
        )
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _level_name(optimization: str) -> str:
    return {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC"}.get(
        optimization, "ORT_ENABLE_EXTENDED"
    )


def _spec(value: onnxruntime.NodeArg) -> TensorSpec:
    return TensorSpec(value.name, _NUMPY.get(value.type, value.type), tuple(value.shape))
