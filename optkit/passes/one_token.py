"""The last layer for one token: where the head reads only the first, the others need no answer.

A text classifier reads the first token of the last hidden states. Everything per token above the
last attention (its query and output projection, the feed-forward block, both LayerNorms) is then
computed for that token alone; keys and values still come from all tokens, and of what is added to the
scores (a window, causality) the first row remains, so answers stay equal. In an encoder of six layers
this leaves out about a seventh of the work, in one of twelve a fourteenth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optkit.passes import graph
from optkit.passes.fused_attention import OPERATOR

if TYPE_CHECKING:
    import onnx


#: What is added to the scores is this input, (batch or 1, heads or 1, tokens, keys), with its tokens there.
_BIAS, _BIAS_AXIS = 5, 2
#: Operators that work on each token by itself, and which of their inputs hold tokens: all, or the first.
_ALL, _FIRST = ("Add", "Sub", "Mul", "Div"), ("MatMul", "LayerNormalization", "Gelu", "Relu", "Tanh", "Erf")


def keep_first_token(model: onnx.ModelProto) -> int:
    """Cut per-token work whose only reader takes token 0, in place; how many operators that were.

    Works on (batch, tokens, width) graphs with fused attention. 0 where the head reads all tokens.
    """
    from onnx import helper, numpy_helper

    constants = graph.initializers(model)
    readers = graph.consumers(model)
    results = {output.name for output in model.graph.output}
    alone: dict[str, Any] = {}  # output → operator whose other tokens nobody reads

    def read_at_zero(tensor: str, node: onnx.NodeProto) -> bool:
        if node.op_type == "Gather" and node.input[0] == tensor:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            index = constants.get(node.input[1])
            return axis == 1 and index is not None and numpy_helper.to_array(index).tolist() in (0, [0])
        if node.op_type == OPERATOR and tensor in node.input[1:]:
            return False  # keys and values are of all tokens
        return node.output[0] in alone and tensor in _tokens_of(node, constants)

    for node in reversed(model.graph.node):
        out = node.output[0]
        unread = out not in results and all(read_at_zero(out, n) for n in readers.get(out, []))
        if unread and readers.get(out) and _tokens_of(node, constants):
            alone[out] = node
    if not any(node.op_type == OPERATOR for node in alone.values()):
        return 0  # a head on one token as it is

    for name, value in (("start", [0]), ("end", [1]), ("axis", [1]), ("row", [_BIAS_AXIS])):
        model.graph.initializer.append(_vector(f"first_token_{name}", value))
    bounds, row = ([f"first_token_{name}" for name in ("start", "end", axis)] for axis in ("axis", "row"))
    nodes: list[onnx.NodeProto] = []
    sliced: set[str] = set()
    for node in model.graph.node:
        if node.output[0] in alone:
            tokens = _tokens_of(node, constants)
            if node.op_type == OPERATOR and len(node.input) > _BIAS and (bias := node.input[_BIAS]):
                first = f"{node.output[0]}_first_row"
                nodes.append(helper.make_node("Slice", [bias, *row], [first], first))
                node.input[_BIAS] = first
            for position, name in enumerate(node.input):
                if name not in tokens or name in alone or (node.op_type == OPERATOR and position):
                    continue
                if name not in sliced:
                    first = helper.make_node("Slice", [name, *bounds], [f"{name}_first"], f"{name}_first")
                    nodes.append(first)
                    sliced.add(name)
                node.input[position] = f"{name}_first"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused_initializers(model)
    # Quantizers leave tensors without a known type in float: what is cut keeps its own, one token long.
    for value in list(model.graph.value_info):
        if value.name in sliced:
            first = model.graph.value_info.add()
            first.CopyFrom(value)
            first.name = f"{value.name}_first"
            first.type.tensor_type.shape.dim[1].dim_value = 1
        elif value.name in alone:
            value.type.tensor_type.shape.dim[1].dim_value = 1
    return len(alone)


def _tokens_of(node: onnx.NodeProto, constants: dict[str, Any]) -> list[str]:
    """Inputs of `node` of which output token i needs token i only; [] where it mixes tokens."""
    if node.op_type == OPERATOR:
        return [node.input[0]]  # the query
    rest = [name for name in node.input if name and name not in constants]
    if node.op_type in _ALL:
        # A constant with a value per token could not be told from one with a value per channel.
        flat = all(len(constants[name].dims) <= 1 for name in node.input if name in constants)
        return rest if flat else []
    return rest if node.op_type in _FIRST and rest == [node.input[0]] else []


def _vector(name: str, values: list[int]) -> onnx.TensorProto:
    import numpy as np
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)
