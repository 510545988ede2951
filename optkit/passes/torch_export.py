"""A torch module as an ONNX file, through torch's dynamo exporter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import PassError, first_line
from optkit.models.limits import token_limit
from optkit.passes import graph
from optkit.passes.experts import every_expert

if TYPE_CHECKING:
    import onnx
    import torch


#: Sizes that a graph is made for where the model states no limit.
MOST_TOKENS, MOST_TEXTS = 2**20, 65536


def export(
    model: torch.nn.Module,
    names: list[str],
    results: list[str],
    samples: EncodedSet,
    file: Path,
    opset: int,
    any_size: bool = False,
) -> None:
    """Write the graph of `model` to `file`, with dynamic batch and sequence, and images of `any_size`.

    Raises PassError in one line.
    """
    import torch

    class Positional(torch.nn.Module):
        """The exporter numbers inputs by position; Hugging Face models take them by name."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = self.model(**dict(zip(names, inputs)), return_dict=True)
            return tuple(answer[name] for name in results)

    feeds = samples.batch(np.argsort(samples.lengths)[-2:])
    # A batch of one would be taken for a constant.
    inputs = tuple(torch.from_numpy(np.repeat(feeds[n], 2, axis=0)[:2]) for n in names)
    batch = torch.export.Dim("batch", min=1, max=MOST_TEXTS)
    longest = token_limit(model.config.to_dict()) or MOST_TOKENS
    sequence = torch.export.Dim("sequence", min=1, max=longest)
    if samples.is_sound:  # convolutions want a few samples at least
        sequence = torch.export.Dim.DYNAMIC
    sides = dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC) if any_size else {}
    fixed = set() if samples.ragged else {n for n in names if samples.arrays[n][0].ndim > 1}
    shapes = tuple({0: batch, **sides} if n in fixed else {0: batch, 1: sequence} for n in names)
    save(Positional(), inputs, {"inputs": shapes}, names, results, file, opset)


def save(
    module: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    dynamic_shapes: dict[str, Any],
    input_names: list[str],
    output_names: list[str],
    file: Path,
    opset: int,
) -> None:
    """Trace `module` and write it to `file`; weights go beside it where they are large.

    Raises PassError in one line for what the exporter refuses.
    """
    import torch

    try:
        with exportable(module.model):
            program = torch.onnx.export(
                module.eval(),
                inputs,
                dynamo=True,
                dynamic_shapes=dynamic_shapes,
                input_names=input_names,
                output_names=output_names,
                opset_version=opset,
                optimize=True,
                verbose=False,
            )
    except Exception as reason:
        raise PassError(
            f"torch cannot export {type(module.model).__name__}: {first_line(reason.__cause__ or reason)}",
            hint="This architecture can be served in torch (pass serve-torch), not as a graph.",
        ) from reason
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    program.save(str(file), external_data=weights > graph.EXTERNAL_BYTES)


@contextmanager
def exportable(model: torch.nn.Module) -> Iterator[None]:
    """`model` as torch's tracer can follow it."""
    with every_expert(model), _unchecked(), _lengths_by_shape(model):
        yield


@contextmanager
def _unchecked() -> Iterator[None]:
    """Without transformers' checks of shapes, which no operator stands for (`torch_compilable_check`)."""
    name = "TRANSFORMERS_DISABLE_TORCH_CHECK"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextmanager
def _lengths_by_shape(model: torch.nn.Module) -> Iterator[None]:
    """`len` of a tensor is its shape's first number in the code of `model`: Python would make a constant of
    it, and the graph one for that many images (RT-DETR, D-FINE)."""
    import torch

    names = {type(part).__module__ for part in model.modules()}
    modules = [sys.modules[name] for name in names if name.startswith("transformers.models.")]
    for module in modules:
        vars(module)["len"] = lambda value: value.shape[0] if isinstance(value, torch.Tensor) else len(value)
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["len"]


def name_squeezed_axes(model: onnx.ModelProto) -> int:
    """Say of each Squeeze without axes which were of size 1 when `model` was traced; how many there were.

    Left as torch's exporter writes it, it also takes away the batch where that is of one text (mBART).
    """
    from onnx import numpy_helper

    shapes, count = graph.shapes(model), 0
    for node in model.graph.node:
        if node.op_type == "Squeeze" and len(node.input) == 1 and node.input[0] in shapes:
            axes = [i for i, size in enumerate(shapes[node.input[0]]) if size == 1]
            name = f"{node.output[0]}_axes"
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes, dtype=np.int64), name))
            node.input.append(name)
            count += 1
    return count


def strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's provenance notes: they hold file paths and add 2% to a small INT8 file."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:]
