"""`quantize-weights`: INT4 or INT8 weights in blocks; activations and arithmetic stay in float."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, copy_side_files
from optkit.errors import PassError
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.int8_embeddings import quantize_embeddings


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Store weights in 4 or 8 bits, one scale per block, and multiply in float (MatMulNBits).

    For models that wait for memory: large ones that answer one short text at a time. Needs no data, and
    an answer does not depend on its batch. Small encoders wait for arithmetic: there full INT8 is faster.
    Notes: how many multiplies and tables were stored in few bits.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "weight-only"
    takes_cache: ClassVar[bool] = True

    bits: int = param(8, "bits of a weight", choices=(4, 8))
    block: int = param(32, "weights that share a scale", choices=(16, 32, 64, 128, 256))
    symmetric: bool = param(True, "no zero point")
    int8_products: bool = param(
        False, "round activations to INT8 in the kernel: faster where it has one, less exact"
    )
    embeddings: bool = param(True, "INT8 embedding tables, one scale per row")
    exclude: tuple[str, ...] = param((), "names of nodes that stay in float")

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        context.progress("quantizing weights", 0.1)
        model = graph.load_graph(source.path)
        chosen = graph.quantizable(model, self.exclude, ("MatMul",))
        if not chosen:
            raise PassError(
                "The graph has no float MatMul with a constant weight.",
                hint="Put quantize-weights right after export-onnx.",
            )
        tables = quantize_embeddings(model) if self.embeddings else []
        with graph.quiet():
            quantizer = MatMulNBitsQuantizer(
                model,
                bits=self.bits,
                block_size=self.block,
                is_symmetric=self.symmetric,
                accuracy_level=4 if self.int8_products else 1,
                nodes_to_exclude=[n.name for n in model.graph.node if n.name not in chosen],
            )
            quantizer.process()
        quantized = quantizer.model.model
        graph.drop_unused_initializers(quantized)
        graph.save_graph(quantized, out)
        copy_side_files(source.path, out)
        count = graph.operator_counts(quantized).get("MatMulNBits", 0)
        return {"quantized_matmuls": count, "quantized_tables": len(tables)}
