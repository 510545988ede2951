"""Small helpers on ONNX graphs that several passes share."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import PassError, RecipeError, did_you_mean
from optkit.runtimes.seq2seq import DECODER, ENCODER
from optkit.runtimes.towers import IMAGE, TEXT

if TYPE_CHECKING:
    import onnx


MODEL_FILE, DATA_FILE = "model.onnx", "model.onnx.data"
FLOAT = 1  # onnx.TensorProto.FLOAT
#: Above this the protobuf limit of 2 GiB is near, and weights go into a file beside the graph.
EXTERNAL_BYTES = 1_800_000_000
#: What lies between the two multiplies of a feed-forward block: bias and activation, fused or not.
ELEMENTWISE = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Cast", "Clip", "Identity"),
    *("Erf", "Tanh", "Sigmoid", "Relu", "Gelu", "Elu", "Swish", "HardSwish"),
    *("BiasGelu", "FastGelu", "QuickGelu"),
}


def names_in(folder: Path) -> list[str]:
    """The graphs of an artifact folder: one, or an encoder's and a decoder's, or those of two towers."""
    several = ([ENCODER, DECODER], [TEXT, IMAGE])
    return next((names for names in several if (folder / names[1]).exists()), [MODEL_FILE])


def load_graph(folder: Path, name: str = MODEL_FILE) -> onnx.ModelProto:
    """The ONNX model of an artifact folder, weights included."""
    import onnx

    return onnx.load(str(folder / name))


def save_graph(model: onnx.ModelProto, folder: Path, name: str = MODEL_FILE) -> None:
    """Write `model` into `folder`, over a graph that is there; large weights go beside it."""
    import onnx

    beside = f"{name}.data"
    (folder / beside).unlink(missing_ok=True)  # onnx would append to it
    size = sum(len(t.raw_data) for t in model.graph.initializer)
    if size > EXTERNAL_BYTES:
        onnx.save(model, str(folder / name), save_as_external_data=True, location=beside)
    else:
        onnx.save(model, str(folder / name))


def initializers(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, Any]:
    """Tensor → the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor → the nodes that read it, a node once for each time."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Tensor → its sizes, None for one that varies; tensors of which the graph says nothing are left out."""
    known = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {
        value.name: tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)
        for value in known
        if value.type.tensor_type.HasField("shape")
    }


def is_transposed(node: onnx.NodeProto) -> bool:
    """Whether a Gemm takes its weight as (outputs, inputs)."""
    return any(a.name == "transB" and a.i for a in node.attribute)


def matmuls_with_weights(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """MatMul and Gemm nodes whose second input is a constant matrix: the ones that INT8 speeds up."""
    constant = {name for name, tensor in initializers(model).items() if len(tensor.dims) == 2}
    return [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in constant]


def quantizable(
    model: onnx.ModelProto,
    exclude: tuple[str, ...],
    operators: tuple[str, ...] = ("MatMul", "Gemm"),
    among: set[str] | None = None,
) -> list[str]:
    """Names of the multiplies and convolutions to quantize; `among` names the only ones to take, if not all.

    Raises RecipeError for an exclusion that is no node.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in constant]
    names = [
        node.name
        for node in (*matmuls_with_weights(model), *convolutions)
        if node.op_type in operators and (among is None or node.name in among)
    ]
    known = {node.name for node in model.graph.node}
    for name in exclude:
        if name not in known:
            raise RecipeError(f"No node is called {name!r} in this graph.", hint=did_you_mean(name, known))
    return [name for name in names if name not in exclude]


def feed_forward(model: onnx.ModelProto, config: dict[str, Any]) -> set[str]:
    """Names of the feed-forward blocks' multiplies. PassError where config.json tells no width."""
    if pruned := config.get("optkit_pruned"):
        return _of_pruned(model, pruned, config)
    sizes, width = {name: list(t.dims) for name, t in initializers(model).items()}, inner_width(config)
    shapes = {node.name: sizes[node.input[1]] for node in matmuls_with_weights(model)}
    packed = {name for name in shapes if name.endswith("kv_MatMul")}
    return {
        name for name, (rows, columns) in shapes.items() if width in (rows, columns) and rows != columns
    } - packed


def _of_pruned(model: onnx.ModelProto, pruned: dict[str, Any], config: dict[str, Any]) -> set[str]:
    """The same where each layer has a width of its own, which may be that of something else too.

    Two multiplies with nothing between them but an activation, from the hidden size, which may have been
    cut as well, to the inner one and back.
    """
    outside = (
        pruned.get("hidden"),
        *(config.get(key) for key in ("hidden_size", "dim", "d_model", "n_embd")),
    )
    hidden = next((size for size in outside if size), 0)
    wanted = [sorted((hidden, width)) for width in pruned["ffn"]]
    sizes = {name: sorted(tensor.dims) for name, tensor in initializers(model).items()}
    fitting = {n.output[0]: n for n in matmuls_with_weights(model) if sizes[n.input[1]] in wanted}
    makers, names = producers(model), set()
    for second in fitting.values():
        behind, seen = [second.input[0]], set()
        while behind:
            name = behind.pop()
            first = fitting.get(name)
            if first is not None and sizes[first.input[1]] == sizes[second.input[1]]:
                names |= {first.name, second.name}
            elif name not in seen and name in makers and makers[name].op_type in ELEMENTWISE:
                behind += makers[name].input
            seen.add(name)
    return names


def inner_width(config: dict[str, Any]) -> int:
    """The inner width of the feed-forward blocks, from config.json. Raises PassError where it has none."""
    for key in ("intermediate_size", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "d_ff"):
        if isinstance(config.get(key), int):
            return config[key]
    raise PassError(
        "Cannot tell the feed-forward blocks: config.json names no inner width (intermediate_size).",
        hint='Use scope = "all" and exclude nodes by name.',
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence ONNX Runtime's quantizer, which logs advice that was already taken or does not apply."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def fold_transposed_weights(model: onnx.ModelProto) -> int:
    """Give each product with a transposed constant matrix a constant of its own, in place; how many.

    A language model's head is the table of its embeddings, transposed: engines fold that when they load
    the graph, and INT8 takes constants only.
    """
    from onnx import numpy_helper

    weights = initializers(model)
    turned = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights and len(weights[node.input[0]].dims) == 2
    }
    folded: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in turned:
            continue
        source = turned[node.input[1]]
        if source not in folded:
            folded[source] = f"{source}_transposed"
            values = np.ascontiguousarray(numpy_helper.to_array(weights[source]).T)
            model.graph.initializer.append(numpy_helper.from_array(values, folded[source]))
        node.input[1] = folded[source]
    used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    nodes = [n for n in model.graph.node if n.output[0] not in turned or n.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    drop_unused_initializers(model)
    return len(folded)


def symmetric_scales(weight: np.ndarray, axis: int | None, largest: float = 127.0) -> np.ndarray:
    """The step of symmetric rounding to values of at most `largest`: one per index of `axis` (None: one in
    all), in a shape that divides `weight`. A row of zeros has a tiny one.

    >>> symmetric_scales(np.array([[1.0, -127.0], [0.5, 254.0]]), 0).tolist()
    [[1.0], [2.0]]
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    return np.maximum(np.abs(weight).max(axis=others, keepdims=axis is not None), 1e-12) / largest


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input} | {o.name for o in model.graph.output}
    tensors = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)


def drop_unused_nodes(model: onnx.ModelProto) -> None:
    """Remove nodes whose results nobody reads, and then the weights that only they read."""
    results = {output.name for output in model.graph.output}
    while True:
        used = results | {name for node in model.graph.node for name in node.input}
        nodes = [node for node in model.graph.node if any(name in used for name in node.output)]
        if len(nodes) == len(model.graph.node):
            break
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    drop_unused_initializers(model)


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def refuse_non_finite(outputs: dict[str, np.ndarray], what: str) -> None:
    """Raise PassError where an output has NaN or infinity."""
    for name, value in outputs.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise PassError(
                f"{what} gives NaN or infinity in its output {name!r}.",
                hint="Check the checkpoint's own outputs on the same text.",
            )
