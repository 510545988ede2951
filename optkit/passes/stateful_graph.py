"""A causal language model as an OpenVINO model that keeps its cache itself, as a state.

What goes in and out is what openvino-genai expects: input_ids, attention_mask, position_ids, beam_idx →
logits. `beam_idx` says which row of the state each row goes on from. Attention stays OpenVINO's own operator,
which its CPU plugin fuses with the state, so that no step copies the cache.
Source: OpenVINO's documentation of stateful models, and optimum-intel's `patch_stateful`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optkit.errors import PassError, first_line
from optkit.passes import causal_graph, torch_export
from optkit.runtimes.openvino_stateful import BEAMS

if TYPE_CHECKING:
    import openvino
    import torch


def convert(model: torch.nn.Module) -> openvino.Model:
    """`model`, a transformers causal language model, in fp32. Raises PassError in one line."""
    import openvino
    import torch

    graph = causal_graph.traceable(model, keep=False)
    module = graph.module.eval()
    try:
        with torch.no_grad(), torch_export.exportable(model):
            program = torch.export.export(module, graph.examples, dynamic_shapes=graph.shapes)
        _drop_empty_parts(program)
        converted = openvino.convert_model(program)
    except Exception as reason:
        raise PassError(
            f"OpenVINO cannot read {type(model).__name__}: {_why(reason)}",
            hint="ONNX Runtime takes it where export-onnx does.",
        ) from reason
    for ports, names in ((converted.inputs, graph.inputs), (converted.outputs, ["logits", *graph.outputs])):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    for port, example in zip(converted.inputs[3:], graph.examples[3:], strict=True):
        _, heads, _, size = example.shape  # what the tracer left open, and an empty state has to know
        port.get_node().set_partial_shape(openvino.PartialShape([-1, heads, -1, size]))
    converted.validate_nodes_and_infer_types()
    _keep_state(converted, dict(zip(graph.inputs[3:], graph.outputs)))
    return converted


def _why(reason: Exception) -> str:
    """OpenVINO puts what it lacks behind a log."""
    text = str(reason.__cause__ or reason)
    return " ".join(text.partition("Summary:")[2].split())[:300] or first_line(reason.__cause__ or reason)


def _drop_empty_parts(program: torch.export.ExportedProgram) -> None:
    """Join nothing to the empty tensor of one dimension that a layer's cache begins with: torch allows it,
    and OpenVINO no tensors of unequal dimensions."""
    import torch

    for node in program.graph.nodes:
        if node.target is torch.ops.aten.cat.default:
            parts = node.args[0]
            whole = [part for part in parts if tuple(part.meta["val"].shape) != (0,)]
            if len(whole) < len(parts):
                node.args = (whole, *node.args[1:])


def _keep_state(model: openvino.Model, cache: dict[str, str]) -> None:
    """Make states of the inputs of `cache`, which the outputs that they map to are the next values of."""
    from openvino import opset13 as ops
    from openvino.passes import MakeStateful, Manager

    inputs = {port.get_any_name(): port.get_node() for port in model.inputs}
    beams = ops.parameter([-1], np.int32, name=BEAMS)
    beams.output(0).get_tensor().set_names({BEAMS})
    model.add_parameters([beams])
    first = ops.constant(0, np.int64)
    for name in cache:
        value = inputs[name].output(0)
        users = value.get_target_inputs()
        reordered = ops.gather(value, beams.output(0), first)
        for user in users:
            user.replace_source_output(reordered.output(0))
    model.validate_nodes_and_infer_types()
    manager = Manager()
    manager.register_pass(MakeStateful(cache))
    manager.run_passes(model)
    rows = ops.gather(ops.shape_of(inputs["input_ids"].output(0), "i64"), ops.constant([0], np.int64), first)
    for op in model.get_ops():
        if op.get_type_name() == "ReadValue":  # before the first token: as many rows as there are texts
            sizes = [d.get_length() if d.is_static else 0 for d in list(op.get_output_partial_shape(0))[1:]]
            shape = ops.concat([rows, ops.constant(np.array(sizes, np.int64))], axis=0)
            op.set_arguments([ops.broadcast(ops.constant(0.0, dtype=np.float32), shape).output(0)])
    model.validate_nodes_and_infer_types()
