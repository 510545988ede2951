"""torch's exporter is asked once for the same module: it takes seconds, and tests export the same often.

What it wrote is copied where the next export would write the same: the key holds the module with its classes,
weights and configuration, the shapes of the inputs and all that the exporter is told. The pass then rewrites
the graph, and compares it with torch, as ever. Tests of the exporter itself ask for `real_exports`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from optkit.passes import graph, torch_export

_save = torch_export.save


def remembering(home: Path) -> Callable[..., None]:
    """What `torch_export.save` does, taken from `home`, or left there for the next."""

    @functools.wraps(_save)
    def save(module, inputs, dynamic_shapes, input_names, output_names, file, opset) -> None:
        told = (dynamic_shapes, input_names, output_names, opset, file.name, graph.EXTERNAL_BYTES)
        there = home / key(module, inputs, told)
        if not there.exists():
            quickly()
            _save(module, inputs, dynamic_shapes, input_names, output_names, file, opset)
            made = Path(tempfile.mkdtemp(dir=home))
            for part in file.parent.glob(f"{file.name}*"):
                shutil.copyfile(part, made / part.name)
            with suppress(OSError):  # another process was as fast
                made.rename(there)
            return
        for part in there.iterdir():
            shutil.copyfile(part, file.parent / part.name)

    return save


def key(module: Any, inputs: Any, told: Any) -> str:
    model, found = module.model, hashlib.sha256()
    settings = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    classes = [(name, type(part).__module__, type(part).__qualname__) for name, part in model.named_modules()]
    shapes = [(tuple(x.shape), x.dtype) for x in inputs]
    attention = model.config._attn_implementation
    found.update(repr((repr(model), classes, settings, attention, shapes, told)).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@functools.cache
def quickly() -> None:
    """torch makes the table of its operators for each export anew, which takes a second."""
    with suppress(ImportError, AttributeError):
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


@functools.cache
def warm() -> None:
    """What torch makes at the first export and keeps: for processes that are forked from this one."""
    import torch

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.line = torch.nn.Embedding(8, 4), torch.nn.Linear(4, 4)

        def forward(self, ids, mask):
            states = self.line(self.table(ids) * mask[..., None])[:, None]
            return torch.nn.functional.scaled_dot_product_attention(states, states, states).mean((1, 2))

    quickly()
    ids = torch.ones(2, 5, dtype=torch.int64)
    shape = {0: torch.export.Dim("batch", min=1, max=99), 1: torch.export.Dim("sequence", min=1, max=99)}
    torch.onnx.export(
        Small().eval(),
        (ids, ids),
        dynamo=True,
        dynamic_shapes=(shape, shape),
        opset_version=20,
        verbose=False,
    )
