"""Embedding tables in INT8, one scale per row.

In a small encoder the word table is half of the weights. A scale per row costs 4 bytes a row and
loses far less than ONNX Runtime's one scale for the whole table; only the rows looked up are
turned back to float. Used by the quantization passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.passes import graph

if TYPE_CHECKING:
    import onnx


#: Smaller tables (token types) are not worth three more nodes.
SMALLEST = 100_000


def quantize_embeddings(model: onnx.ModelProto) -> list[str]:
    """Replace each `Gather` from a large float table, in place; the names of the tables replaced.

    Gather(table (rows, width)) becomes Mul(Cast(Gather(int8 table)), Gather(scales (rows, 1))).
    Symmetric: scale = max |row| / 127.
    """
    from onnx import helper, numpy_helper

    tables = graph.initializers(model)
    replaced: list[str] = []
    nodes: list[Any] = []
    for node in model.graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or np.prod(table.dims) < SMALLEST:
            nodes.append(node)
            continue
        name, out = node.input[0], node.output[0]
        if name not in replaced:
            values = numpy_helper.to_array(table).astype(np.float32)
            scales = graph.symmetric_scales(values, 0)
            rounded = np.clip(np.rint(values / scales), -127, 127).astype(np.int8)
            model.graph.initializer.append(numpy_helper.from_array(rounded, f"{name}_int8"))
            model.graph.initializer.append(
                numpy_helper.from_array(scales.astype(np.float32), f"{name}_scale")
            )
            replaced.append(name)
        rows, scale, real = f"{out}_rows", f"{out}_scale", f"{out}_float"
        nodes += [
            helper.make_node("Gather", [f"{name}_int8", node.input[1]], [rows], f"{node.name}_int8"),
            helper.make_node("Cast", [rows], [real], f"{node.name}_cast", to=1),
            helper.make_node("Gather", [f"{name}_scale", node.input[1]], [scale], f"{node.name}_scale"),
            helper.make_node("Mul", [real, scale], [out], f"{node.name}_dequantize"),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused_initializers(model)
    return replaced
