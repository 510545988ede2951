"""ONNX Runtime: the portable engine, and the default for `onnx` artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.errors import CheckpointError, MissingDependency, OptkitError
from optkit.session import Feeds, Session, TensorSpec

_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
_LEVELS = ("disabled", "basic", "extended", "all")


class OnnxRuntimeSession(Session):
    """An ONNX graph on the CPU, or with provider "cuda" on a GPU.

    `threads` (None: the library's choice) bounds those of one operator; `spinning` lets them wait busily
    for the next one (faster alone, ruinous beside others); `arena` keeps freed memory for reuse;
    `optimization` is the graph optimization level: disabled, basic, extended or all; `prepacking` lays
    weights out for the kernels at load, which takes memory.
    """

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
        graphs = [f for f in artifact.model_files if f.suffix == ".onnx"]
        if len(graphs) != 1:
            raise CheckpointError(f"Expected one .onnx file in {str(artifact.path)!r}, found {len(graphs)}.")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(graphs[0]), settings, providers=providers)
        except Exception as reason:
            raise CheckpointError(f"ONNX Runtime cannot load {str(graphs[0])!r}: {reason}") from reason
        used = self._session.get_providers()[0]
        if used != providers[0]:  # ONNX Runtime falls back to the CPU with no more than a log line
            raise OptkitError(
                f"Expected ONNX Runtime to run on {providers[0]}, received {used}.",
                hint="Check nvidia-smi, and that CUDA and cuDNN fit this onnxruntime-gpu.",
            )
        self.device = provider
        self.inputs = tuple(_spec(x) for x in self._session.get_inputs())
        self.outputs = tuple(_spec(x) for x in self._session.get_outputs())

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        values = self._session.run(None, self.select(feeds))
        return {spec.name: value for spec, value in zip(self.outputs, values)}

    def close(self) -> None:
        self._session = None


def open_session(artifact: Artifact, **options: Any) -> OnnxRuntimeSession:
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


def _spec(value: Any) -> TensorSpec:
    return TensorSpec(value.name, _NUMPY.get(value.type, value.type), tuple(value.shape))
