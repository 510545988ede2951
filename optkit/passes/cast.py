"""`cast-fp16` and `cast-bf16`: half precision written into the ONNX graph, for engines on GPUs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.finite_attention import make_masks_finite
from optkit.passes.half_precision import STABLE, to_half

#: Examples on which the new graph is compared with the old one.
CHECKED = 16


@dataclass(frozen=True)
class _Cast(Pass):
    """What the two share; the subclass says which type."""

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"

    keep: tuple[str, ...] = param(STABLE, "operator types that stay in fp32")
    tolerance: float = param(
        0.05,
        "largest allowed change, as a share of the largest output; not for a quantized graph",
        minimum=0.0,
    )

    @abstractmethod
    def kind(self) -> str:
        """fp16 or bf16."""

    def precision_of(self, source: Artifact) -> str | None:
        """A quantized graph stays one: only what was left in float is cast."""
        return None if source.precision in ("int8", "fp8") else self.precision

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        model = graph.load_graph(source.path)
        notes: dict[str, Any] = make_masks_finite(model)
        notes |= to_half(model, self.kind(), self.keep)
        graph.save_graph(model, out)
        copy_side_files(source.path, out)
        context.progress("comparing with the source", 0.8)
        batches = _checks(context.encoded("validation", CHECKED))
        # In a quantized graph a value at the edge of a step may fall either way; its score decides.
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        tolerance = float("inf") if quantized else self.tolerance
        notes["max_difference"] = _difference(source.path, out, batches, self.kind(), tolerance)
        return notes


@dataclass(frozen=True)
class CastFp16(_Cast):
    """Cast the graph to fp16; normalization stays in fp32, and masks become finite.

    For engines on GPUs; on most CPUs fp16 is emulated and slower. Inputs and outputs keep their
    types. Notes: how many nodes were cast, `max_difference` to the source on checked examples.
    """

    precision: ClassVar[str | None] = "fp16"

    def kind(self) -> str:
        return "fp16"


@dataclass(frozen=True)
class CastBf16(_Cast):
    """Cast the graph to bf16: the range of fp32 with 8 bits of mantissa.

    For engines on GPUs since Ampere. Inputs and outputs keep their types. Notes: as cast-fp16;
    `max_difference` is None where ONNX Runtime has no bf16 kernels on this CPU.
    """

    precision: ClassVar[str | None] = "bf16"

    def kind(self) -> str:
        return "bf16"


def _checks(samples: EncodedSet) -> list[dict[str, np.ndarray]]:
    """All samples padded, the shortest alone, and one row that is masked altogether."""
    together = samples.batch(np.arange(len(samples)))
    alone = samples.batch(np.argsort(samples.lengths)[:1])
    batches = [together, alone]
    if "attention_mask" in together:
        batches.append({**alone, "attention_mask": np.zeros_like(alone["attention_mask"])})
    return batches


def _difference(
    before: Path, after: Path, batches: list[dict[str, np.ndarray]], kind: str, tolerance: float
) -> float | None:
    """The largest change as a share of the largest output; rows masked altogether need only be finite."""
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    try:
        new = _outputs(after, batches)
    except NoKernel:  # ONNX Runtime has few bf16 kernels on CPUs; TensorRT and CUDA have them
        return None
    old = _outputs(before, batches)
    worst = 0.0
    for name in new[0]:
        largest = max(float(np.abs(a[name]).max()) for a in old)
        for feeds, a, b in zip(batches, old, new):
            graph.refuse_non_finite({name: b[name]}, f"The {kind} graph")
            if feeds.get("attention_mask", np.ones(1)).any():
                worst = max(worst, float(np.abs(a[name] - b[name]).max()) / max(largest, 1e-6))
    if worst > tolerance:
        raise PassError(
            f"Expected {kind} to change outputs by at most {tolerance:.1%} of the largest, "
            f"received {worst:.1%}.",
            hint="Use cast-bf16 where numbers are large, or name more operators in keep.",
        )
    return worst


def _outputs(folder: Path, batches: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(folder / graph.MODEL_FILE), settings, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    outputs = [o.name for o in session.get_outputs()]
    return [dict(zip(outputs, session.run(None, {n: f[n] for n in names}))) for f in batches]
