"""`serve-onnx-runtime`: the graph as it is, and which provider of ONNX Runtime is to run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, copy_model
from optkit.passes.base import Pass, PassContext, param


@dataclass(frozen=True)
class ServeOnnxRuntime(Pass):
    """Keep the graph and record the execution provider for the runtime `onnxruntime`.

    `cuda` needs onnxruntime-gpu (extra `gpu`); a provider that falls back to the CPU is an error.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    runtime: ClassVar[str | None] = "onnxruntime"
    takes_cache: ClassVar[bool] = True
    takes_encoder_decoder: ClassVar[bool] = True
    takes_towers: ClassVar[bool] = True

    provider: str = param("cpu", "ONNX Runtime's execution provider", choices=("cpu", "cuda"))

    def runtime_options(self, notes: dict[str, Any]) -> dict[str, Any]:
        return {"provider": self.provider}

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        copy_model(source, out)
        return {}
