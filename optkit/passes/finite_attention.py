"""Attention masks that stay finite in half precision, and the NaN guard that is then needless.

torch exports `Where(mask, 0, -inf)`, added to the scores, and behind the softmax a guard against rows
that are masked altogether: `Where(IsNaN(p), 0, p)`. In fp16 -3.4e38 becomes -infinity too, and
-65504 overflows when a score is added. With -1e4 a masked key keeps exp(-1e4) = 0 of the weight in
every precision, a row that is masked altogether attends to all keys alike, and no NaN can arise;
without the guard the pattern softmax → product is one that engines fuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optkit.passes import graph

if TYPE_CHECKING:
    import onnx


#: What a masked score gets; every constant below it is raised to it.
MASKED = -1e4


def make_masks_finite(model: onnx.ModelProto) -> dict[str, int]:
    """Raise scalar constants below `MASKED` to it and remove NaN guards, in place; how many of each."""
    raised = _raise_constants(model)
    return {"masks_raised": raised, "nan_guards_removed": _remove_guards(model)}


def _raise_constants(model: onnx.ModelProto) -> int:
    from onnx import numpy_helper

    count = 0
    tensors = list(model.graph.initializer)
    tensors += [
        a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
    ]
    for tensor in tensors:
        if tensor.data_type != graph.FLOAT or int(np.prod(tensor.dims)) != 1:
            continue
        value = numpy_helper.to_array(tensor)
        if value.reshape(-1)[0] < MASKED:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(value, MASKED), tensor.name))
            count += 1
    return count


def _remove_guards(model: onnx.ModelProto) -> int:
    """Where(IsNaN(x), constant, x) becomes x."""
    tests = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "IsNaN"}
    renamed = {
        n.output[0]: n.input[2]
        for n in model.graph.node
        if n.op_type == "Where" and tests.get(n.input[0]) == n.input[2]
    }
    if not renamed:
        return 0
    nodes = [n for n in model.graph.node if n.output[0] not in renamed]
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    used = {name for n in nodes for name in n.input} | {o.name for o in model.graph.output}
    nodes = [n for n in nodes if n.op_type != "IsNaN" or n.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused_initializers(model)
    return len(renamed)
