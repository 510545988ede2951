"""`quantize-dynamic`: INT8 weights; activations are quantized while the model runs, without data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, copy_side_files
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.int8_embeddings import quantize_embeddings


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Quantize matrix multiplies with constant weights to INT8 (ONNX Runtime's `quantize_dynamic`).

    Activations get their range from each batch at run time, so an answer can move a little with
    the texts that share its batch. Notes: how many multiplies and tables became INT8.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    takes_cache: ClassVar[bool] = True
    precision: ClassVar[str | None] = "int8"

    per_channel: bool = param(True, "one weight scale per output channel")
    embeddings: bool = param(True, "INT8 embedding tables, one scale per row")
    reduce_range: bool = param(False, "7-bit weights, for CPUs without VNNI")
    exclude: tuple[str, ...] = param((), "names of nodes that stay in float")

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        context.progress("quantizing weights", 0.1)
        model = graph.load_graph(source.path)
        chosen = graph.quantizable(model, self.exclude)
        tables = quantize_embeddings(model) if self.embeddings else []
        with graph.quiet():
            quantize_dynamic(
                model,
                str(out / graph.MODEL_FILE),
                op_types_to_quantize=["MatMul", "Gemm"],
                # The library turns each Gemm into a MatMul of this name before it compares names.
                nodes_to_quantize=[*chosen, *(f"{name}_MatMul" for name in chosen)],
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
                # The type behind nodes that shape inference does not know (MultiHeadAttention).
                extra_options={"DefaultTensorType": graph.FLOAT},
            )
        copy_side_files(source.path, out)
        return {"quantized_matmuls": len(chosen), "quantized_tables": len(tables)}
