"""Masks over units: hooks that multiply what enters a sublayer's output projection.

They need no `head_mask` of the model, and work under every attention implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.models.uneven.layout import Sublayer

if TYPE_CHECKING:
    import torch


@contextmanager
def masked(masks: Mapping[Sublayer, torch.Tensor | np.ndarray]) -> Iterator[None]:
    """Within the block each sublayer's units are scaled by its mask.

    A mask is (units,), or (examples, units) for one per example; sublayers without units are skipped.
    """
    import torch

    handles = []
    for sublayer, mask in masks.items():
        if sublayer.units:
            mask = torch.as_tensor(mask)
            handles.append(sublayer.output.register_forward_pre_hook(_hook(mask, sublayer.width)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(mask: torch.Tensor, width: int) -> Callable[..., tuple[Any, ...]]:
    def scale(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        spread = mask.repeat_interleave(width, dim=-1)
        if spread.dim() == 2:  # one row per example: (examples, 1, features)
            spread = spread[:, None]
        return (inputs[0] * spread, *inputs[1:])

    return scale
