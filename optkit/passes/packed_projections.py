"""Query, key and value as one matrix multiply: three products that share an input become one.

One larger product packs its input once and starts its threads once, which is what a short text pays
for. Also takes out the reshapes to heads and back that the exporter leaves around fused attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.passes import graph
from optkit.passes.fused_attention import OPERATOR

if TYPE_CHECKING:
    import onnx


def bypass_reshapes(model: onnx.ModelProto) -> int:
    """Feed each fused attention, and what reads it, directly; how many reshapes went, in place.

    (batch, tokens, hidden) → heads → (batch, tokens, hidden) around an operator that takes and gives
    (batch, tokens, hidden) is nothing. A reshape from or to anything else stays: some exports multiply
    flat, (batch x tokens, hidden), as Whisper's does.
    """
    before = len(model.graph.node)
    makers = graph.producers(model)
    readers = graph.consumers(model)
    shapes = graph.shapes(model)

    def fits(name: str, like: str) -> bool:
        """Whether `name` is known to be (batch, tokens, hidden), as wide as `like`."""
        shape, wanted = shapes.get(name, ()), shapes.get(like, (None,))
        return len(shape) == 3 and (wanted[-1] is None or shape[-1] == wanted[-1])

    for node in (n for n in model.graph.node if n.op_type == OPERATOR):
        for index in range(3):
            name = tensor = node.input[index]
            while name in makers and makers[name].op_type == "Reshape":
                name = makers[name].input[0]
                if fits(name, tensor):
                    node.input[index] = name
        last = tensor = node.output[0]
        while [n.op_type for n in readers.get(last, [])] == ["Reshape"]:
            last = readers[last][0].output[0]
            for reader in readers.get(last, []) if fits(last, tensor) else ():
                for index, name in enumerate(reader.input):
                    if name == last:
                        reader.input[index] = tensor
    graph.drop_unused_nodes(model)
    return before - len(model.graph.node)


def pack(model: onnx.ModelProto) -> int:
    """One product for the projections into each fused attention that share an input; how many products
    were packed, in place.

    Where the query is of one token (`one_token`), key and value are packed alone.
    """
    from onnx import helper, numpy_helper

    makers = graph.producers(model)
    constants = graph.initializers(model)
    packed = 0
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != OPERATOR:
            nodes.append(node)
            continue
        projections = {i: _projection(node.input[i], makers, constants) for i in range(3)}
        value = projections[2]
        shared = {i: one for i, one in projections.items() if one and value and one[0] == value[0]}
        if value is None or len(shared) < 2:
            nodes.append(node)
            continue
        x, name = value[0], f"{node.output[0]}_{'qkv' if len(shared) == 3 else 'kv'}"
        weights = [numpy_helper.to_array(constants[one[1]]) for one in shared.values()]
        biases = [numpy_helper.to_array(constants[b]) if (b := one[2]) else None for one in shared.values()]
        has_bias = any(b is not None for b in biases)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.concatenate(weights, axis=1), f"{name}_weight"),
                numpy_helper.from_array(
                    np.array([w.shape[1] for w in weights], dtype=np.int64), f"{name}_widths"
                ),
            ]
        )
        if has_bias:  # Whisper's key has none, its query and value do
            rows = [np.zeros(w.shape[1], w.dtype) if b is None else b for w, b in zip(weights, biases)]
            model.graph.initializer.append(numpy_helper.from_array(np.concatenate(rows), f"{name}_bias"))
        outputs = [f"{name}_{i}" for i in shared]
        nodes.append(helper.make_node("MatMul", [x, f"{name}_weight"], [f"{name}_product"], f"{name}_MatMul"))
        if has_bias:
            nodes.append(
                helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [f"{name}_sum"], f"{name}_Add")
            )
        together = f"{name}_sum" if has_bias else f"{name}_product"
        nodes.append(
            helper.make_node("Split", [together, f"{name}_widths"], outputs, f"{name}_Split", axis=-1)
        )
        for i, output in zip(shared, outputs):
            node.input[i] = output
        nodes.append(node)
        packed += len(shared)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused_nodes(model)
    return packed


def _projection(
    name: str, makers: dict[str, Any], constants: dict[str, Any]
) -> tuple[str, str, str | None] | None:
    """(input, weight, bias) of the linear layer that makes `name`; None for anything else."""
    node, bias = makers.get(name), None
    if node is not None and node.op_type == "Add":
        bias = next((i for i in node.input if i in constants and len(constants[i].dims) == 1), None)
        node = makers.get(next((i for i in node.input if i != bias), "")) if bias else None
    if (
        node is None
        or node.op_type != "MatMul"
        or len(getattr(constants.get(node.input[1]), "dims", ())) != 2
    ):
        return None
    return node.input[0], node.input[1], bias
