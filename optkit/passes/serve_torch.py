"""`serve-torch`: the checkpoint as it is, and how torch is to serve it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, copy_model
from optkit.errors import RecipeError
from optkit.passes.base import Pass, PassContext, param


@dataclass(frozen=True)
class ServeTorch(Pass):
    """Keep the checkpoint and record device, precision and compilation for the runtime `torch`.

    Half precision with fused attention (SDPA), `torch.compile` with CUDA graphs, and torchao's 8-bit
    layers need no other file; as candidates beside engines they are measured and gated alike.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    runtime: ClassVar[str | None] = "torch"

    device: str = param("cpu", "where it runs", choices=("cpu", "cuda"))
    dtype: str = param("bf16", "type of weights and activations", choices=("fp32", "fp16", "bf16"))
    attention: str = param("sdpa", "fused attention, or written out", choices=("sdpa", "eager"))
    compile: bool = param(False, "through torch.compile; on cuda with CUDA graphs")
    quantize: str = param("none", "8-bit linear layers by torchao", choices=("none", "int8", "fp8"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantize == "fp8" and self.dtype == "fp32":
            raise RecipeError("serve-torch: fp8 needs dtype bf16 or fp16, received fp32.")

    def precision_of(self, source: Artifact) -> str | None:
        return self.dtype if self.quantize == "none" else self.quantize

    def runtime_options(self, notes: dict[str, Any]) -> dict[str, Any]:
        options = {name: value for name, value in self.parameters().items() if name != "quantize"}
        return options if self.quantize == "none" else {**options, "quantize": self.quantize}

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        copy_model(source, out)
        return {}
