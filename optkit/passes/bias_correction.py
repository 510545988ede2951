"""Bias correction: the mean error that rounding leaves in a product's output, taken out of its bias.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.2, with the means measured on calibration data instead of derived from batch norms. A product
is linear, so the mean of its output follows from the mean of its input: no product is run for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.passes import graph
from optkit.passes.calibration import Probe, unpadded

if TYPE_CHECKING:
    import onnx


def correct_biases(
    model: onnx.ModelProto, quantized: onnx.ModelProto, chosen: list[str], samples: EncodedSet
) -> int:
    """Take each product's mean shift out of its bias in the float `model`, in place; how many had a bias.

    `quantized` is the same graph with Q/DQ pairs around the inputs of `chosen`. Where every input is as
    in float, E[Wq xq + b'] is then E[W x + b] on `samples`. A product without a bias is left alone.
    """
    from onnx import numpy_helper

    weights, readers = graph.initializers(model), graph.consumers(model)
    biased = {
        n.name: (n, b) for n in model.graph.node if n.name in chosen and (b := _bias(n, weights, readers))
    }
    rounding = _Rounding(quantized)
    steps = {name: rounding.of_input(name) for name in biased}
    means = _means(model, {biased[name][0].input[0]: step for name, step in steps.items()}, samples)
    for name, (node, bias_input) in biased.items():
        before, after = means[node.input[0]]
        weight, rounded = numpy_helper.to_array(weights[node.input[1]]), rounding.weight(name)
        if graph.is_transposed(node):
            weight, rounded = weight.T, rounded.T
        shift = after @ rounded.astype(np.float64) - before @ weight.astype(np.float64)
        reader, index = bias_input
        bias = list(reader.input)[index : index + 1]
        values = (numpy_helper.to_array(weights[bias[0]]) if bias else 0.0) - shift
        bias_name = f"{name}_corrected_bias"  # the same zeros may serve several products
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), bias_name))
        if bias:
            reader.input[index] = bias_name
        else:
            reader.input.append(bias_name)
    graph.drop_unused_initializers(model)
    return len(biased)


class _Rounding:
    """What the Q/DQ pairs of a quantized graph do to a product's two inputs."""

    def __init__(self, quantized: onnx.ModelProto) -> None:
        self._nodes = {node.name: node for node in quantized.graph.node}
        self._makers = graph.producers(quantized)
        self._constants = graph.initializers(quantized)

    def of_input(self, name: str) -> tuple[float, int, int, int]:
        """(scale, zero point, least, most) of the activation that the product `name` reads."""
        pair = self._makers[self._nodes[name].input[0]]
        scale, zero = self._value(pair.input[1]), self._value(pair.input[2])
        limits = np.iinfo(zero.dtype)
        return float(scale), int(zero), int(limits.min), int(limits.max)

    def weight(self, name: str) -> np.ndarray:
        """The weight of the product `name` after rounding, in its own layout."""
        pair = self._makers[self._nodes[name].input[1]]
        values, scale, zero = (self._value(i).astype(np.float64) for i in pair.input)
        axis = next((a.i for a in pair.attribute if a.name == "axis"), 1)
        if scale.ndim:
            shape = [-1 if i == axis % values.ndim else 1 for i in range(values.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        return (values - zero) * scale

    def _value(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._constants[name])


def _bias(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], readers: dict[str, list[onnx.NodeProto]]
) -> tuple[onnx.NodeProto, int] | None:
    """(reader, which of its inputs) where the bias of a product is kept; None where there is no place."""
    if node.op_type == "Gemm":  # exporters leave a bias of zeros out, and there is a place for one
        takes_one = len(node.input) == 2 or len(getattr(weights.get(node.input[2]), "dims", ())) == 1
        return (node, 2) if takes_one else None
    add = readers.get(node.output[0], [])
    if [n.op_type for n in add] != ["Add"]:
        return None
    places = [i for i, x in enumerate(add[0].input) if x in weights and len(weights[x].dims) == 1]
    return (add[0], places[0]) if places else None


def _means(
    model: onnx.ModelProto, steps: dict[str, tuple[float, int, int, int]], samples: EncodedSet
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Tensor → the mean of each channel (its last dimension) over all tokens, before and after rounding."""
    sums: dict[str, tuple[Any, Any, int]] = {name: (0.0, 0.0, 0) for name in steps}
    with Probe(model, sorted(steps)) as run:
        for indices in unpadded(samples):
            for name, value in run(samples.batch(indices)).items():
                scale, zero, least, most = steps[name]
                rows = value.reshape(-1, value.shape[-1])
                rounded = (np.clip(np.rint(rows / scale) + zero, least, most) - zero) * scale
                before, after, count = sums[name]
                sums[name] = (
                    before + rows.sum(axis=0, dtype=np.float64),
                    after + rounded.sum(axis=0, dtype=np.float64),
                    count + len(rows),
                )
    return {name: (before / count, after / count) for name, (before, after, count) in sums.items()}
