"""`quantize-dynamic`: INT8 weights; activations are quantized while the model runs, without data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optkit.core.artifact import Artifact, copy_model
from optkit.errors import RecipeError
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.int8_embeddings import quantize_embeddings
from optkit.tasks.base import Task

if TYPE_CHECKING:
    import onnx


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
    takes_encoder_decoder: ClassVar[bool] = True
    takes_towers: ClassVar[bool] = True

    per_channel: bool = param(True, "one weight scale per output channel")
    embeddings: bool = param(True, "INT8 embedding tables, one scale per row")
    reduce_range: bool = param(False, "7-bit weights, for CPUs without VNNI")
    exclude: tuple[str, ...] = param((), "names of nodes that stay in float")
    half: str = param("both", "which, of an encoder and a decoder", choices=("both", "encoder", "decoder"))

    def check(self, checkpoint: Artifact, task: Task) -> None:
        if self.half != "both" and not task.has_encoder:
            raise RecipeError(f"A model for {task.name} has no decoder: leave half = {self.half!r} out.")

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        copy_model(source, out)
        models = {name: graph.load_graph(source.path, name) for name in graph.names_in(source.path)}
        nodes = {name: {node.name for node in model.graph.node} for name, model in models.items()}
        everywhere = set().union(*nodes.values())
        notes = {"quantized_matmuls": 0, "quantized_tables": 0}
        for number, (name, model) in enumerate(models.items()):
            if self.half != "both" and name != f"{self.half}.onnx":
                continue
            context.progress("quantizing weights", 0.1 + 0.4 * number)
            # What no graph has is refused by the first.
            exclude = tuple(n for n in self.exclude if n in nodes[name] or n not in everywhere)
            chosen = graph.quantizable(model, exclude)
            notes["quantized_matmuls"] += len(chosen)
            notes["quantized_tables"] += len(quantize_embeddings(model)) if self.embeddings else 0
            (out / f"{name}.data").unlink(missing_ok=True)
            self._quantize(model, chosen, out / name)
        return notes

    def _quantize(self, model: onnx.ModelProto, chosen: list[str], file: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with graph.quiet():
            quantize_dynamic(
                model,
                str(file),
                op_types_to_quantize=["MatMul", "Gemm"],
                # The library turns each Gemm into a MatMul of this name before it compares names.
                nodes_to_quantize=[*chosen, *(f"{name}_MatMul" for name in chosen)],
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
                # The type behind nodes that shape inference does not know (MultiHeadAttention).
                extra_options={"DefaultTensorType": graph.FLOAT},
            )
