"""SmoothQuant: outliers of activations move into the weights before both are rounded.

Source: Xiao et al. 2022, "SmoothQuant", equation 4: channel j of an input is divided by
s_j = max|X_j|^a / max|W_j|^(1 - a), and row j of the weights is multiplied by it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.passes import graph
from optkit.passes.calibration import Probe, unpadded

if TYPE_CHECKING:
    import onnx


def smooth(model: onnx.ModelProto, chosen: list[str], samples: EncodedSet, strength: float) -> int:
    """Put one multiplication before each input that `chosen` multiplies share; how many were put in.

    Changes `model` in place; in float its outputs stay what they were, but for rounding. A Mul is
    needed because after a LayerNorm the same tensor also feeds the residual path.
    """
    from onnx import helper, numpy_helper

    weights = graph.initializers(model)
    sharing: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    uses: dict[str, int] = defaultdict(int)
    for node in model.graph.node:
        for name in node.input:
            uses[name] += 1
        if node.name in set(chosen):
            sharing[node.input[0]].append(node)
    # A weight that two multiplies share cannot take on two scales.
    sharing = {x: nodes for x, nodes in sharing.items() if all(uses[n.input[1]] == 1 for n in nodes)}
    largest = _channel_maxima(model, sorted(sharing), samples)
    for tensor, nodes in sharing.items():
        rows = np.max([_row_maxima(node, weights[node.input[1]]) for node in nodes], axis=0)
        seen = np.maximum(largest[tensor], 1e-5)
        scales = seen**strength / np.maximum(rows, 1e-5) ** (1 - strength)
        scales = np.clip(scales, 1e-4, 1e4).astype(np.float32)
        for node in nodes:
            weight = weights[node.input[1]]
            values = numpy_helper.to_array(weight).astype(np.float32)
            factors = scales[None, :] if graph.is_transposed(node) else scales[:, None]
            weight.CopyFrom(numpy_helper.from_array((values * factors).astype(np.float32), weight.name))
            node.input[0] = f"{tensor}_smooth"
        model.graph.initializer.append(numpy_helper.from_array(1 / scales, f"{tensor}_smooth_factor"))
        multiply = helper.make_node(
            "Mul", [tensor, f"{tensor}_smooth_factor"], [f"{tensor}_smooth"], f"{tensor}_smooth_mul"
        )
        first = {node.name for node in nodes}
        index = next(i for i, node in enumerate(model.graph.node) if node.name in first)
        model.graph.node.insert(index, multiply)
    return len(sharing)


def _channel_maxima(model: onnx.ModelProto, tensors: list[str], samples: EncodedSet) -> dict[str, np.ndarray]:
    """Tensor → the largest absolute value of each channel (its last dimension) over all samples."""
    maxima: dict[str, np.ndarray] = {}
    with Probe(model, tensors) as run:
        for indices in unpadded(samples):
            for name, value in run(samples.batch(indices)).items():
                here = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
                maxima[name] = np.maximum(maxima[name], here) if name in maxima else here
    return maxima


def _row_maxima(node: onnx.NodeProto, weight: onnx.TensorProto) -> np.ndarray:
    """The largest absolute weight that each input channel meets."""
    from onnx import numpy_helper

    return np.abs(numpy_helper.to_array(weight)).max(axis=0 if graph.is_transposed(node) else 1)
