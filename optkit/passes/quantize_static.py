"""`quantize-static`: INT8 weights and activations, with ranges fixed on training data (QDQ)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.bias_correction import correct_biases
from optkit.passes.calibration import METHODS, Range, activation_ranges
from optkit.passes.int8_embeddings import quantize_embeddings
from optkit.passes.smooth_quant import smooth
from optkit.passes.tower_graphs import calibration_rows, is_of_another_tower, tower_config

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Quantize matrix multiplies with constant weights; activation scales come from calibration.

    Writes QuantizeLinear/DequantizeLinear pairs (QDQ), which ONNX Runtime turns into integer
    kernels and other engines read too. An answer does not depend on its batch. Outputs of the
    multiplies stay float: quantizing them as well costs accuracy and gains little on a CPU. Those of
    convolutions (operators with "Conv") are quantized, or no integer kernel would take them.
    Notes: how many multiplies became INT8, and on how many examples the ranges rest.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    takes_cache: ClassVar[bool] = True
    precision: ClassVar[str | None] = "int8"
    needs_data: ClassVar[bool] = True
    takes_towers: ClassVar[bool] = True

    calibration: str = param("min-max", "how a range follows from the values seen", choices=METHODS)
    percentile: float = param(
        99.999, "share of values kept by percentile calibration", minimum=90.0, maximum=100.0
    )
    samples: int = param(256, "training examples to calibrate on", minimum=1)
    smooth_quant: float = param(
        -1.0, "strength of SmoothQuant, 0 to 1; a negative value turns it off", minimum=-1.0, maximum=1.0
    )
    bias_correction: bool = param(False, "take the mean error of each product's output out of its bias")
    per_channel: bool = param(True, "one weight scale per output channel")
    symmetric: bool = param(False, "activation ranges symmetric around 0")
    embeddings: bool = param(True, "INT8 embedding tables, one scale per row")
    reduce_range: bool = param(False, "7-bit weights, for CPUs without VNNI")
    operators: tuple[str, ...] = param(("MatMul", "Gemm"), "operator types to quantize; Conv may be added")
    scope: str = param("all", "every multiply, or those of the feed-forward blocks", choices=("all", "ffn"))
    exclude: tuple[str, ...] = param((), "names of nodes that stay in float")

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        samples = context.encoded("train", self.samples)
        read, total = calibration_rows(samples, context.task), dict[str, int]()
        copy_side_files(source.path, out)
        names = graph.names_in(source.path)
        chosen = {name: self._named(graph.load_graph(source.path, name), source, name) for name in names}
        for name in names:
            model = graph.load_graph(source.path, name)
            if chosen[name] or not any(chosen.values()):  # else all of this one stays in float
                model, notes = self._quantized(model, source, name, read.get(name, samples), context)
                for key, count in notes.items():
                    total[key] = total.get(key, 0) + count
            graph.save_graph(model, out, name)
        return {**total, "calibration_examples": len(samples)}

    def _quantized(
        self, model: onnx.ModelProto, source: Artifact, name: str, samples: EncodedSet, context: PassContext
    ) -> tuple[onnx.ModelProto, dict[str, int]]:
        """The graph `name`, with ranges from what it reads of the data, `samples`; counts for the report."""
        chosen = self.chosen(model, source, name)
        nodes = {node.name: node for node in model.graph.node}
        convolutions = [name for name in chosen if nodes[name].op_type == "Conv"]
        multiplies = [name for name in chosen if name not in convolutions]
        smoothed = 0
        if self.smooth_quant >= 0 and len(samples):
            context.progress("moving outliers into the weights", 0.02)
            smoothed = smooth(model, multiplies, samples, self.smooth_quant)
        outputs = {nodes[name].output[0] for name in convolutions}
        tensors = sorted({nodes[name].input[0] for name in chosen} | outputs)
        ranges = activation_ranges(
            model, tensors, samples, self.calibration, self.percentile, context.progress
        )
        context.progress("writing Q/DQ pairs", 0.95)
        tables = quantize_embeddings(model) if self.embeddings else []
        corrected = 0
        if self.bias_correction:
            context.progress("correcting biases", 0.95)
            rounded = self._with_qdq(copy.deepcopy(model), chosen, ranges)
            corrected = correct_biases(model, rounded, multiplies, samples)
        return self._with_qdq(model, chosen, ranges), {
            "quantized_matmuls": len(multiplies),
            **({"quantized_convolutions": len(convolutions)} if convolutions else {}),
            "quantized_tables": len(tables),
            "smoothed_inputs": smoothed,
            "corrected_biases": corrected,
        }

    def chosen(self, model: onnx.ModelProto, source: Artifact, name: str = graph.MODEL_FILE) -> list[str]:
        """Names of the multiplies of the graph `name` that become INT8. Raises PassError where there are
        none."""
        names = self._named(model, source, name)
        if not names:  # an empty list would mean all of them to the quantizer
            where = "in the feed-forward blocks" if self.scope == "ffn" else "of this graph"
            raise PassError(
                f"Expected multiplies with constant weights to quantize {where}, received none.",
                hint='Use scope = "all", or exclude fewer nodes; where a model has convolutions alone, '
                'open-vino-int8, or operators = ["Conv"].',
            )
        return names

    def _named(self, model: onnx.ModelProto, source: Artifact, name: str) -> list[str]:
        config = tower_config(source.config, name)
        among = graph.feed_forward(model, config) if self.scope == "ffn" else None
        exclude = tuple(n for n in self.exclude if not is_of_another_tower(n, name))
        return graph.quantizable(model, exclude, self.operators, among)

    def _with_qdq(
        self, model: onnx.ModelProto, chosen: list[str], ranges: dict[str, Range]
    ) -> onnx.ModelProto:
        """`model`, which is used up, with Q/DQ pairs around the inputs of the multiplies `chosen`."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        data = {
            name: TensorData(lowest=np.float32(low), highest=np.float32(high))
            for name, (low, high) in ranges.items()
        }
        with graph.quiet():
            quantizer = QDQQuantizer(
                model,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, data),
                nodes_to_quantize=chosen,
                nodes_to_exclude=[],
                op_types_to_quantize=list(self.operators),
                extra_options={
                    "ActivationSymmetric": self.symmetric,
                    "OpTypesToExcludeOutputQuantization": [op for op in self.operators if op != "Conv"],
                    "MatMulConstBOnly": True,
                    "DefaultTensorType": graph.FLOAT,
                },
            )
            quantized = quantizer.quantize_model()
        graph.drop_unused_initializers(quantized)
        return quantized
