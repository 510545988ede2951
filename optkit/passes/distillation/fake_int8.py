"""Multiply as INT8 will, in float: so that training meets the rounding before the quantization pass does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from optkit.models.uneven.layout import is_transposed

if TYPE_CHECKING:
    import torch


#: Levels on one side of zero of a symmetric INT8 weight, and steps of an unsigned INT8 activation.
WEIGHT, ACTIVATION = 127, 255


@contextmanager
def fake_int8(model: torch.nn.Module, on: bool = True) -> Iterator[None]:
    """Within the block every linear layer of `model` rounds its weights and inputs to INT8's levels.

    As `quantize-dynamic` does: weights symmetric with one scale per output, inputs with one scale and zero
    point for the batch at hand. Rounding lets gradients through unchanged (Jacob et al. 2018). Nothing is
    added to the model: its parameters, their names and what is saved of them stay what they are.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, Conv1D))] if on else []
    for layer in layers:
        layer.forward = partial(_multiply, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


def _multiply(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    import torch

    weight = rounded_weight(layer.weight, axis=1 if is_transposed(layer) else 0)
    return torch.nn.functional.linear(
        rounded_input(x), weight.T if is_transposed(layer) else weight, layer.bias
    )


def rounded_weight(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """A matrix at the nearest of INT8's levels, one scale for each row (axis 0) or column (axis 1)."""
    import torch

    scale = _scale(weight.detach().abs().amax(dim=1 - axis), WEIGHT)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -WEIGHT, WEIGHT)


def rounded_input(x: torch.Tensor) -> torch.Tensor:
    """A tensor at the nearest of 256 levels between its least and its greatest number; 0 is one of them."""
    import torch

    x = x.float()
    low, high = x.detach().aminmax()
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = _scale(high - low, ACTIVATION)
    zero = torch.round(-low / scale).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, ACTIVATION)


def _scale(reach: torch.Tensor, levels: int) -> torch.Tensor:
    """Never 0: a row of zeros, or an empty batch of them, stays one."""
    return (reach.float() / levels).clamp_min(1e-12)
