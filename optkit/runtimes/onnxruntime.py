"""ONNX Runtime: the portable engine, and the default for `onnx` artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.errors import CheckpointError, OptkitError
from optkit.session import Feeds, Session, TensorSpec

_NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
_LEVELS = ("disabled", "basic", "extended", "all")


class OnnxRuntimeSession(Session):
    """An ONNX graph on the CPU.

    `threads` (None: the library's choice) bounds those of one operator; `spinning` lets them wait busily
    for the next one (faster alone, ruinous beside others); `arena` keeps freed memory for reuse;
    `optimization` is the graph optimization level: disabled, basic, extended or all.
    """

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None = None,
        spinning: bool = True,
        arena: bool = True,
        optimization: str = "all",
    ) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads or 0
        settings.log_severity_level = 3
        settings.enable_cpu_mem_arena = arena
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
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
            self._session: Any = onnxruntime.InferenceSession(
                str(graphs[0]), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as reason:
            raise CheckpointError(f"ONNX Runtime cannot load {str(graphs[0])!r}: {reason}") from reason
        self.inputs = tuple(_spec(x) for x in self._session.get_inputs())
        self.outputs = tuple(_spec(x) for x in self._session.get_outputs())

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        values = self._session.run(None, self.select(feeds))
        return {spec.name: value for spec, value in zip(self.outputs, values)}

    def close(self) -> None:
        self._session = None


def open_session(artifact: Artifact, **options: Any) -> OnnxRuntimeSession:
    return OnnxRuntimeSession(artifact, **options)


def _level_name(optimization: str) -> str:
    return {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC"}.get(
        optimization, "ORT_ENABLE_EXTENDED"
    )


def _spec(value: Any) -> TensorSpec:
    return TensorSpec(value.name, _NUMPY.get(value.type, value.type), tuple(value.shape))
