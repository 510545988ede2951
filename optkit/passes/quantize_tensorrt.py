"""`quantize-tensorrt`: INT8 or FP8 with Q/DQ pairs where TensorRT's kernels want them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.errors import PassError
from optkit.passes import graph
from optkit.passes.attention_pattern import Attention, find_attention, residuals
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.calibration import METHODS, activation_ranges
from optkit.passes.finite_attention import make_masks_finite

if TYPE_CHECKING:
    import onnx


#: Head sizes and the longest text for which TensorRT fuses INT8 attention.
HEAD_SIZES, LONGEST = (16, 32, 64), 512
#: The largest magnitude of each type; FP8 is E4M3 (ONNX FLOAT8E4M3FN), for GPUs since Ada and Hopper.
LARGEST = {"int8": 127.0, "fp8": 448.0}


@dataclass(frozen=True)
class QuantizeTensorRT(Pass):
    """Insert symmetric Q/DQ pairs around products, attention and residual additions.

    Every product with a weight gets INT8 inputs and weights (one scale per output channel; with
    `kind` fp8 E4M3 numbers instead, and one scale per weight). With
    `attention`: both inputs of the first batched product, the softmax's output, the value, and the
    output of the second product, which is what TensorRT fuses at head size 16, 32 or 64 and up to
    512 tokens. With `residual`: the residual input of each addition. Masks become finite.
    Notes: how many tensors were quantized, and whether attention was.

    Source: TensorRT's documentation, "Quantized types" (symmetric; FP8 clips at 448), and its list of
    attention fusions.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "int8"
    needs_data: ClassVar[bool] = True

    kind: str = param(
        "int8", "int8, or fp8 for GPUs of compute capability 8.9 and later", choices=tuple(LARGEST)
    )
    calibration: str = param("percentile", "how a range follows from the values seen", choices=METHODS)
    percentile: float = param(
        99.99, "share of values kept by percentile calibration", minimum=90.0, maximum=100.0
    )
    samples: int = param(256, "training examples to calibrate on", minimum=1)
    attention: bool = param(True, "INT8 attention where TensorRT fuses it")
    residual: bool = param(True, "INT8 residual additions")
    exclude: tuple[str, ...] = param((), "names of multiplies that stay in float")

    @classmethod
    def name(cls) -> str:
        return "quantize-tensorrt"

    def precision_of(self, source: Artifact) -> str | None:
        return self.kind

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        model = graph.load_graph(source.path)
        if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
            raise PassError(
                "Expected a graph of standard operators, received one with operators of com.microsoft.",
                hint='Export with attention = "plain".',
            )
        notes: dict[str, Any] = make_masks_finite(model)
        weighted = set(graph.quantizable(model, self.exclude))
        fuses, reason = _fuses(source.config)
        blocks = find_attention(model) if self.attention and fuses else []
        places = self._places(model, weighted, blocks)
        tensors = sorted({node.input[i] for node, i in places})
        samples = context.encoded("train", self.samples)
        ranges = activation_ranges(
            model, tensors, samples, self.calibration, self.percentile, context.progress
        )
        context.progress("writing Q/DQ pairs", 0.95)
        scales = {name: _scale(*ranges[name], self.kind) for name in tensors}
        weights = insert_pairs(model, places, weighted, scales, self.kind)
        graph.save_graph(model, out)
        copy_side_files(source.path, out)
        return notes | {
            "kind": self.kind,
            "quantized_tensors": len(tensors),
            "quantized_weights": weights,
            "int8_attention": len(blocks),
            "attention_note": reason,
            "calibration_examples": len(samples),
        }

    def _places(
        self, model: onnx.ModelProto, weighted: set[str], blocks: list[Attention]
    ) -> list[tuple[onnx.NodeProto, int]]:
        """(node, number of its input) for each input that gets a pair."""
        places = [(n, 0) for n in model.graph.node if n.name in weighted]
        for block in blocks:
            places += [(block.scores, 0), (block.scores, 1), (block.context, 0), (block.context, 1)]
            behind = [n for n in model.graph.node if block.context.output[0] in n.input]
            places += [(n, list(n.input).index(block.context.output[0])) for n in behind]
        if self.residual:
            places += residuals(model, set(graph.initializers(model)))
        return places


def insert_pairs(
    model: onnx.ModelProto,
    places: list[tuple[onnx.NodeProto, int]],
    weighted: set[str],
    scales: dict[str, float],
    kind: str = "int8",
) -> int:
    """Put a Q/DQ pair before each place, one pair per tensor, and one on each weight; in place.

    `scales` is per tensor; zero points are 0, as TensorRT demands. Gives the number of weights.
    """
    from onnx import helper, numpy_helper

    zero = f"{kind}_zero"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), dtype=_numpy(kind)), zero))
    wanted = {node.input[i] for node, i in places}
    for node, i in places:
        node.input[i] = f"{node.input[i]}_dq"
    nodes: list[onnx.NodeProto] = []

    def pair(name: str) -> list[onnx.NodeProto]:
        scale = numpy_helper.from_array(np.array(scales[name], dtype=np.float32), f"{name}_scale")
        model.graph.initializer.append(scale)
        values = [scale.name, zero]
        return [
            helper.make_node("QuantizeLinear", [name, *values], [f"{name}_q"], f"{name}_quantize"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", *values], [f"{name}_dq"], f"{name}_dequantize"
            ),
        ]

    weights = graph.initializers(model)
    done: set[str] = set()
    for value in model.graph.input:
        if value.name in wanted:
            nodes += pair(value.name)
    for node in model.graph.node:
        if node.name in weighted:
            name = node.input[1]
            if name not in done:
                transposed = graph.is_transposed(node)
                axis = None if kind == "fp8" else 0 if transposed else 1
                nodes.append(_quantize_weight(model, weights[name], axis, kind))
                done.add(name)
            node.input[1] = f"{name}_dq"
        nodes.append(node)
        for name in node.output:
            if name in wanted:
                nodes += pair(name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused_initializers(model)
    return len(done)


def _quantize_weight(
    model: onnx.ModelProto, tensor: onnx.TensorProto, axis: int | None, kind: str
) -> onnx.NodeProto:
    """Store `tensor` with a scale per channel along `axis` (None: one scale); gives its DequantizeLinear."""
    from onnx import helper, numpy_helper

    values, name, largest = numpy_helper.to_array(tensor).astype(np.float32), tensor.name, LARGEST[kind]
    scales = graph.symmetric_scales(values, axis, largest)
    scaled = np.clip(values / scales, -largest, largest)
    stored = (np.rint(scaled) if kind == "int8" else scaled).astype(_numpy(kind))
    scales = np.asarray(scales, dtype=np.float32).reshape(() if axis is None else -1)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(stored, f"{name}_{kind}"),
            numpy_helper.from_array(scales, f"{name}_scale"),
            numpy_helper.from_array(np.zeros(scales.shape, dtype=_numpy(kind)), f"{name}_zero"),
        ]
    )
    inputs = [f"{name}_{kind}", f"{name}_scale", f"{name}_zero"]
    along: dict[str, Any] = {} if axis is None else {"axis": axis}
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_dq"], f"{name}_dequantize", **along)


def _numpy(kind: str) -> np.dtype:
    """numpy's type for `kind`; that of FP8 comes with onnx."""
    if kind == "int8":
        return np.dtype(np.int8)
    import ml_dtypes

    return np.dtype(ml_dtypes.float8_e4m3fn)


def _scale(low: float, high: float, kind: str) -> float:
    return max(abs(low), abs(high), 1e-8) / LARGEST[kind]


def _fuses(config: dict[str, Any]) -> tuple[bool, str]:
    """Whether TensorRT fuses INT8 attention for this model, and a sentence why (not)."""
    hidden = config.get("hidden_size") or config.get("dim")
    heads = config.get("num_attention_heads") or config.get("n_heads")
    if not isinstance(hidden, int) or not isinstance(heads, int) or not heads:
        return False, "The configuration names no head size; attention stays in float."
    size = hidden // heads
    if size not in HEAD_SIZES:
        return False, f"TensorRT fuses INT8 attention at head sizes {HEAD_SIZES}; this model's is {size}."
    return True, f"Head size {size}; fused up to {LONGEST} tokens."
