"""What the teacher says to every text: computed once and kept on disk where it fits, or anew each time.

A student that has lost most of its FLOPs trains faster than its teacher answers, so that a teacher that
runs in every epoch takes the larger part of the time.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import write_json
from optkit.data.examples import EncodedSet
from optkit.models.checkpoint import is_per_token, model_outputs
from optkit.passes.distillation.view import Seen, View

if TYPE_CHECKING:
    import torch


#: Larger than this, or than half of the free disk, and the teacher runs in every epoch.
MOST_BYTES = 12 << 30
#: The teacher's answers are held in memory: beyond this, as a language model's (a vocabulary per token)
#: soon are, it runs in every epoch too.
MOST_ANSWERS = 1 << 30
#: Tokens per batch of the teacher.
TOKENS = 4096

TeacherValues = Callable[[Sequence[int], dict[str, Any]], Seen]


def taught(
    view: View,
    encoded: EncodedSet,
    names: Sequence[str],
    folder: Path,
    tick: Callable[[float], None] = lambda done: None,
    writes: bool = True,
) -> TeacherValues:
    """`lessons(indices, feeds)`: what `view` shows for these examples of `encoded`.

    Stored in `folder`, inner states in half precision, unless that would be too large. `names` are the
    model's inputs. With `writes` false another process writes, and `Stored` has to wait for it.
    """
    if not _fits(view, encoded, folder):
        return lambda indices, feeds: _shown(view, feeds)
    if writes and not (folder / "done.json").exists():
        _store(view, encoded, names, folder, tick)
    return Stored(folder, encoded)


@dataclass
class Stored:
    """TeacherValues in `folder`, opened on first use: one row of features per token, outputs per example."""

    folder: Path
    encoded: EncodedSet

    def __post_init__(self) -> None:
        self._open: tuple[Any, dict[str, Any], dict[str, Any]] | None = None

    def __call__(self, indices: Sequence[int], feeds: dict[str, Any]) -> Seen:
        import torch

        from optkit.core.files import read_json
        from optkit.errors import PassError

        if self._open is None:
            shape = read_json(self.folder / "done.json", PassError)
            states = np.load(self.folder / "states.npy", mmap_mode="r")
            outputs = dict(np.load(self.folder / "outputs.npz"))
            self._open = states, outputs, shape
            self._starts = np.concatenate([[0], np.cumsum(self.encoded.lengths)])
        states, outputs, shape = self._open
        lengths = self.encoded.lengths[list(indices)]
        longest = int(lengths.max())
        rows = [slice(self._starts[i], self._starts[i] + n) for i, n in zip(indices, lengths)]
        features = np.zeros((len(rows), longest, states.shape[1]), dtype=np.float32)
        for line, row, n in zip(features, rows, lengths):
            line[:n] = states[row]
        parts = list(torch.from_numpy(features).split(shape["widths"], dim=-1)) if shape["widths"] else []
        tensors = {}
        for name, values in outputs.items():
            if name in shape["per_token"]:
                padded = np.zeros((len(rows), longest, *values.shape[1:]), dtype=np.float32)
                for line, row, n in zip(padded, rows, lengths):
                    line[:n] = values[row]
                tensors[name] = torch.from_numpy(padded)
            else:
                tensors[name] = torch.from_numpy(values[list(indices)])
        return Seen(tensors, parts[: shape["states"]], parts[shape["states"] :])


def _store(
    view: View, encoded: EncodedSet, names: Sequence[str], folder: Path, tick: Callable[[float], None]
) -> None:
    """Answer every example, longest first; "done.json" is written last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    starts = np.concatenate([[0], np.cumsum(encoded.lengths)])
    states: np.memmap | None = None
    outputs: dict[str, Any] = {}
    per_token: list[str] = []
    shape: dict[str, Any] = {}
    answered = 0
    for indices in encoded.batches(256, TOKENS):
        feeds = encoded.batch(indices)
        longest = int(encoded.lengths[indices].max())
        seen = _shown(view, {name: _tensor(feeds[name]) for name in names})
        parts = [part.half().numpy() for part in (*seen.states, *seen.attention)]
        if states is None:
            widths = [part.shape[-1] for part in parts]
            shape = {"widths": widths, "states": len(seen.states)}
            size = (int(starts[-1]), sum(widths))
            states = np.lib.format.open_memmap(folder / "states.npy", "w+", np.float16, size)
            for name, value in seen.outputs.items():
                # One value per token, unless the number of labels is the length by chance.
                if value.dim() > 1 and value.shape[1] == longest and _varies(view, name):
                    per_token.append(name)
                count = int(starts[-1]) if name in per_token else len(encoded)
                inner = value.shape[2 if name in per_token else 1 :]
                outputs[name] = np.zeros((count, *inner), dtype=np.float32)
        for line, i in enumerate(indices):
            rows = slice(starts[i], starts[i + 1])
            n = int(starts[i + 1] - starts[i])
            if parts:
                states[rows] = np.concatenate([part[line, :n] for part in parts], axis=-1)
            for name, value in seen.outputs.items():
                if name in per_token:
                    outputs[name][rows] = value[line, :n].numpy()
                else:
                    outputs[name][i] = value[line].numpy()
        answered += len(indices)
        tick(answered / len(encoded))
    assert states is not None
    states.flush()
    np.savez(folder / "outputs.npz", **outputs)
    write_json(folder / "done.json", {**shape, "per_token": per_token})


def _shown(view: View, feeds: dict[str, Any]) -> Seen:
    """What `view` shows, on the CPU, without gradients."""
    import torch

    device = next(view.model.parameters()).device
    with torch.no_grad():  # what a model keeps for itself (BEiT, of positions) is of use in training
        seen = view({name: value.to(device) for name, value in feeds.items()})
    return Seen(
        {name: value.float().cpu() for name, value in seen.outputs.items()},
        [state.float().cpu() for state in seen.states],
        [state.float().cpu() for state in seen.attention],
    )


def _fits(view: View, encoded: EncodedSet, folder: Path) -> bool:
    if next(iter(encoded.arrays.values()))[0].ndim > 1:  # images: their tokens are not counted here
        return False
    width = view.model.config.hidden_size * len(view.states)
    if view.attention:
        width += sum(m.weight.shape[0] for m in view.attention.inputs[:3])
    tokens, texts = int(encoded.lengths.sum()), len(encoded)
    answers = sum(
        4 * values_in(shape) * (tokens if is_per_token(shape) else texts)
        for shape in model_outputs(view.model).values()
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    return answers < MOST_ANSWERS and 2 * width * tokens + answers < min(MOST_BYTES, free // 2)


def values_in(shape: Sequence[int | str]) -> int:
    """The numbers in one row of an output: the product of the dimensions that are fixed.

    >>> values_in(("batch", "sequence", 9))
    9
    """
    return math.prod(n for n in shape if isinstance(n, int))


def _varies(view: View, name: str) -> bool:
    return is_per_token(model_outputs(view.model)[name])


def _tensor(array: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(array)
