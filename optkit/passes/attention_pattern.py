"""Attention blocks of a plain ONNX graph: product, mask, softmax, product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


#: What may lie between a product and the softmax, or the softmax and a product.
_BETWEEN = {"Add", "Mul", "Div", "Where"}


@dataclass(frozen=True)
class Attention:
    """Node names and tensors of one block: `scores` = query x key, `context` = weights x value."""

    scores: onnx.NodeProto
    softmax: onnx.NodeProto
    context: onnx.NodeProto


def find_attention(model: onnx.ModelProto) -> list[Attention]:
    """The blocks of `model` in the order of the graph; [] where attention is fused or absent."""
    producers = {name: node for node in model.graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    blocks = []
    for softmax in (n for n in model.graph.node if n.op_type == "Softmax"):
        scores = _up(producers.get(softmax.input[0]), producers)
        context = next((n for n in consumers.get(softmax.output[0], []) if n.op_type == "MatMul"), None)
        if scores is not None and context is not None and context.input[0] == softmax.output[0]:
            blocks.append(Attention(scores, softmax, context))
    return blocks


def _up(node: onnx.NodeProto | None, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The product above `node`, past the scale and the mask."""
    while node is not None and node.op_type in _BETWEEN:
        above = [producers.get(name) for name in node.input]
        node = next((n for n in above if n is not None and n.op_type in ("MatMul", *_BETWEEN)), None)
    return node if node is not None and node.op_type == "MatMul" else None


def residuals(model: onnx.ModelProto, skip: set[str]) -> list[tuple[onnx.NodeProto, int]]:
    """(Add node, number of its input) where a normalized tensor is added back: the residual branch.

    `skip` names initializers; an Add of a bias is none.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    branches = []
    for node in model.graph.node:
        if node.op_type != "Add" or any(name in skip for name in node.input):
            continue
        kinds = [producers[n].op_type if n in producers else "" for n in node.input]
        if kinds.count("LayerNormalization") == 1:
            branches.append((node, kinds.index("LayerNormalization")))
    return branches
