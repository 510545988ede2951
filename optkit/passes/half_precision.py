"""Rewrite an fp32 graph in fp16 or bf16, some operators left in fp32 between casts.

The types are written into the graph itself, as strongly typed engines want them. Inputs and outputs
of the model keep their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import PassError
from optkit.passes import graph

if TYPE_CHECKING:
    import onnx


#: What sums many squares stays in fp32: 65,504 is soon reached.
STABLE = ("LayerNormalization", "ReduceMean", "ReduceSum", "ReduceL2", "Pow", "Sqrt")
#: The largest finite number.
LARGEST = {"fp16": 65504.0, "bf16": 3.38e38}


def to_half(model: onnx.ModelProto, kind: str, keep: tuple[str, ...]) -> dict[str, int]:
    """Convert `model` in place to `kind` (fp16 or bf16); operator types in `keep` stay in fp32.

    Operators of other domains than ai.onnx stay too. Raises PassError for a weight that does not fit.
    Returns how many nodes ended on which side.
    """
    import onnx

    target = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[kind]
    floats = _float_tensors(model)
    weights = graph.initializers(model)
    low_weights: dict[str, Any] = {}
    casts: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    low, stable = 0, 0
    for value in model.graph.input:
        if value.name in floats and value.name not in weights:
            casts[value.name] = f"{value.name}_{kind}"
            nodes.append(_cast(value.name, casts[value.name], target))
    from_input = dict(casts)
    outputs = {o.name for o in model.graph.output if o.name in floats}
    up: dict[str, str] = {}

    def lowered(name: str) -> str:
        if name in weights and name in floats:
            if name not in low_weights:
                low_weights[name] = _half(weights[name], f"{name}_{kind}", kind, target)
            return str(low_weights[name].name)
        if name in outputs:
            return f"{name}_{kind}"
        return from_input.get(name, name)

    for node in model.graph.node:
        if node.op_type in keep or node.domain not in ("", "ai.onnx"):
            stable += 1
            for i, name in enumerate(node.input):
                if name in floats and name not in weights and name not in from_input:
                    if name not in up:
                        up[name] = f"{name}_fp32"
                        nodes.append(_cast(lowered(name), up[name], graph.FLOAT))
                    node.input[i] = up[name]
            after = []
            for i, name in enumerate(node.output):
                if name in floats:
                    up[name] = node.output[i] = f"{name}_fp32"
                    after.append(_cast(up[name], lowered(name), target))
            nodes += [node, *after]
            continue
        if any(name in floats for name in (*node.input, *node.output)):
            low += 1
        for i, name in enumerate(node.input):
            node.input[i] = lowered(name) if name in floats else name
        for i, name in enumerate(node.output):
            node.output[i] = lowered(name) if name in floats else name
        _retype(node, kind, target)
        nodes.append(node)
    nodes += [_cast(f"{name}_{kind}", name, graph.FLOAT) for name in sorted(outputs)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    model.graph.initializer.extend(low_weights.values())
    graph.drop_unused_initializers(model)
    return {f"{kind}_nodes": low, "fp32_nodes": stable}


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all fp32 tensors, by shape inference and from the initializers."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False)
    except ValueError as reason:
        raise PassError(
            "The graph is too large for ONNX's shape inference (2 GiB); it cannot be cast.",
            hint="Load the checkpoint in half precision and export that.",
        ) from reason
    floats = {t.name for t in model.graph.initializer if t.data_type == graph.FLOAT}
    types = {t.name: t.data_type for t in model.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        types[value.name] = value.type.tensor_type.elem_type
        if value.type.tensor_type.elem_type == graph.FLOAT:
            floats.add(value.name)
    for node in model.graph.node:  # what inference does not know: contrib operators, as their inputs
        for name in node.output:
            if name and name not in types and any(i in floats for i in node.input):
                floats.add(name)
                types[name] = graph.FLOAT
    return floats


def _cast(source: str, output: str, kind: int) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Cast", [source], [output], f"{output}_cast", to=kind)


def _retype(node: onnx.NodeProto, kind: str, target: int) -> None:
    """Attributes that name fp32, or hold a constant of it."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == graph.FLOAT:
            attribute.i = target
        if attribute.HasField("t") and attribute.t.data_type == graph.FLOAT:
            attribute.t.CopyFrom(_half(attribute.t, attribute.t.name, kind, target))


def _half(tensor: onnx.TensorProto, name: str, kind: str, target: int) -> onnx.TensorProto:
    from onnx import TensorProto, numpy_helper

    values = numpy_helper.to_array(tensor).astype(np.float32)
    largest = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(largest) or largest > LARGEST[kind]:
        raise PassError(
            f"The weight {tensor.name!r} reaches {largest:g}, and {kind} ends at {LARGEST[kind]:g}.",
            hint="Use cast-bf16, whose range is that of fp32.",
        )
    if kind == "fp16":
        return numpy_helper.from_array(values.astype(np.float16), name)
    return TensorProto(
        name=name, data_type=target, dims=list(values.shape), raw_data=bf16_bits(values).tobytes()
    )


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """fp32 rounded to nearest even bf16, as uint16.

    >>> hex(int(bf16_bits(np.array([1.0], dtype=np.float32))[0]))
    '0x3f80'
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
