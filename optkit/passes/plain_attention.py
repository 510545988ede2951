"""Fused attention back to standard ONNX operators, for engines that lack ONNX Runtime's own.

`export-onnx` writes one `com.microsoft::MultiHeadAttention` per layer. OpenVINO fuses attention
itself, from the plain pattern: split into heads, scale, multiply, mask, softmax, multiply, join.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import PassError
from optkit.passes.fused_attention import OPERATOR

if TYPE_CHECKING:
    import onnx


#: Added to the scores of padding: the contrib operator's own default, and exp(-10000) is 0.
_MASKED = -10000.0


def unfuse(model: onnx.ModelProto) -> int:
    """Replace every MultiHeadAttention of `model` in place; how many there were.

    The mask is turned into an addend once, not per layer. Raises PassError for any other operator
    outside of standard ONNX.
    """
    nodes: list[onnx.NodeProto] = []
    writer = _Writer(model, nodes)
    count = 0
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx"):
            nodes.append(node)
        elif node.op_type == OPERATOR:
            writer.attention(node)
            count += 1
        else:
            raise PassError(
                f"The graph has {node.domain}::{node.op_type}, which is not in standard ONNX.",
                hint="Start from what export-onnx wrote, not from a graph that another tool rewrote.",
            )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    standard = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    return count


class _Writer:
    """Appends standard nodes to `nodes`; constants and mask addends are shared by all layers."""

    def __init__(self, model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
        self._model, self._nodes = model, nodes
        self._constants: dict[str, str] = {}
        self._addends: dict[str, str] = {}

    def attention(self, node: onnx.NodeProto) -> None:
        """(batch, tokens, hidden) query, key, value → (batch, tokens, hidden), as `node` gave it."""
        settings = {a.name: a for a in node.attribute}
        inputs = [*node.input, *[""] * 6][:6]
        query, key, value, packed_bias, mask, bias = inputs
        if packed_bias or not key or not value:
            raise PassError(f"Expected {node.name!r} as export-onnx writes it, received {list(node.input)}.")
        name, heads = node.output[0], settings["num_heads"].i
        split = self._constant(f"heads_{heads}", np.array([0, 0, heads, -1], dtype=np.int64))
        rows = {}
        for kind, tensor, order in (
            ("query", query, [0, 2, 1, 3]),
            ("key", key, [0, 2, 3, 1]),
            ("value", value, [0, 2, 1, 3]),
        ):
            apart = self._add("Reshape", [tensor, split], f"{name}_{kind}_heads")
            rows[kind] = self._add("Transpose", [apart], f"{name}_{kind}", perm=order)
        if "scale" not in settings:
            raise PassError(f"Expected {node.name!r} to state its scale.")
        scale = settings["scale"].f
        factor = self._constant(f"scale_{scale:.9g}", np.array(scale, dtype=np.float32))
        scaled = self._add("Mul", [rows["query"], factor], f"{name}_scaled")
        scores = self._add("MatMul", [scaled, rows["key"]], f"{name}_scores")
        if mask:
            scores = self._add("Add", [scores, self._addend(mask)], f"{name}_masked")
        if bias:  # windows, causality, distances: (batch or 1, heads or 1, tokens, keys), shared as it is
            scores = self._add("Add", [scores, bias], f"{name}_biased")
        shares = self._add("Softmax", [scores], f"{name}_shares", axis=-1)
        mixed = self._add("MatMul", [shares, rows["value"]], f"{name}_mixed")
        joined = self._add("Transpose", [mixed], f"{name}_joined", perm=[0, 2, 1, 3])
        flat = self._constant("hidden", np.array([0, 0, -1], dtype=np.int64))
        self._add("Reshape", [joined, flat], name)

    def _addend(self, mask: str) -> str:
        """(batch, keys) of 0 and 1 → (batch, 1, 1, keys) of -10000 and 0."""
        if mask not in self._addends:
            axes = self._constant("axes", np.array([1, 2], dtype=np.int64))
            one = self._constant("one", np.array(1.0, dtype=np.float32))
            lowest = self._constant("lowest", np.array(-_MASKED, dtype=np.float32))
            real = self._add("Cast", [mask], f"{mask}_real", to=1)
            negative = self._add("Sub", [real, one], f"{mask}_negative")
            addend = self._add("Mul", [negative, lowest], f"{mask}_lowest")
            self._addends[mask] = self._add("Unsqueeze", [addend, axes], f"{mask}_addend")
        return self._addends[mask]

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], f"{output}_{operator}", **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = f"plain_attention_{name}"
            self._model.graph.initializer.append(numpy_helper.from_array(value, self._constants[name]))
        return self._constants[name]
