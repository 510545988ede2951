"""The work of a model that is no ONNX graph: counted by torch while it runs, or on OpenVINO's graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.benchmarking.roofline import Work, count, graph_of
from optkit.core.artifact import Artifact

if TYPE_CHECKING:
    import onnx


Shapes = Sequence[tuple[int, int]]


def of(artifact: Artifact, shapes: Shapes, task: str | None = None) -> list[Work] | None:
    """The work of one inference at each batch × tokens; None where nobody can count it.

    `task` is what a checkpoint is loaded for (None: its architecture tells).
    """
    if artifact.format == "hf":
        return of_torch(artifact, shapes, task)
    if artifact.format == "openvino":
        return of_openvino(artifact.path, shapes)
    graph = graph_of(artifact.path)
    return None if graph is None else [count(graph, *shape) for shape in shapes]


def of_torch(artifact: Artifact, shapes: Shapes, task: str | None = None) -> list[Work]:
    """What torch's counter of floating-point operations sees; all weights but tables are read once.

    The counter does not see into fused attention, so attention is run step by step.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from optkit.models.checkpoint import load_model, model_inputs

    model = load_model(artifact, task)
    model.set_attn_implementation("eager")
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    read = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in tables)
    counts = []
    for shape in shapes:
        sizes = {name: (*shape, 4) if name == "bbox" else shape for name in model_inputs(model)}
        feeds = {name: torch.ones(size, dtype=torch.int64) for name, size in sizes.items()}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**feeds)
        total = float(counter.get_total_flops())
        counts.append(Work(total, 0.0, float(read), products=total))
    return counts


def of_openvino(folder: Path, shapes: Shapes) -> list[Work] | None:
    """MatMul and fused attention of an OpenVINO graph, whose shapes are known once the input's are."""
    import openvino

    files = sorted(folder.glob("*.xml"))
    if len(files) != 1:
        return None
    model = openvino.Core().read_model(str(files[0]))
    counts = []
    for shape in shapes:
        more = {port: [size.get_length() for size in list(port.partial_shape)[2:]] for port in model.inputs}
        model.reshape({port: [*shape, *sizes] for port, sizes in more.items()})
        operations = low = moved = 0.0
        for node in model.get_ordered_ops():
            if node.get_type_name() == "ScaledDotProductAttention":
                query, key = (list(node.input(i).get_shape()) for i in (0, 1))
                operations += 4.0 * prod(query) * key[-2]
            elif node.get_type_name() == "MatMul":
                inner = list(node.input(0).get_shape())[-2 if node.get_attributes()["transpose_a"] else -1]
                work = 2.0 * inner * prod(node.output(0).shape)
                operations += work
                low += work if _quantized(node) else 0.0
                moved += _stored_bytes(node)
        counts.append(Work(operations, low, moved))
    return counts


#: What lies between a MatMul and its constant, or its quantized input.
_BETWEEN = ("Convert", "Multiply", "Subtract", "FakeQuantize", "Reshape", "Transpose")


def _quantized(node: onnx.NodeProto) -> bool:
    """Whether its activations are: an INT8 weight alone is turned back to float."""
    return any(maker.get_type_name() == "FakeQuantize" for maker in _makers(node, 0))


def _stored_bytes(node: onnx.NodeProto) -> float:
    """Of the matrix it multiplies by, where that is a constant."""
    last = _makers(node, 1)[-1]
    if last.get_type_name() != "Constant":
        return 0.0
    return float(prod(last.output(0).shape) * last.output(0).element_type.size)


def _makers(node: onnx.NodeProto, index: int) -> list[onnx.NodeProto]:
    """What makes an input, back to the first node that does more than convert."""
    counts = [node.input(index).get_source_output().get_node()]
    while counts[-1].get_type_name() in _BETWEEN:
        counts.append(counts[-1].input(0).get_source_output().get_node())
    return counts
