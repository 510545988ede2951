"""Gradients of the loss with respect to the masks, per example, without labels.

The loss is the cross-entropy to labels drawn from the model itself. Its gradients' second moment is
the Fisher information (and the curvature of the KL divergence to the unpruned model). Instead of
labels, a random direction with the same covariance is drawn, diag(p) - pp': one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from optkit.errors import PassError
from optkit.models.pooling import OUTPUT, TOKENS
from optkit.models.uneven.layout import Sublayer
from optkit.passes.pruning.masks import masked

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle
    from transformers.modeling_outputs import ModelOutput


#: Softens the model's answers, so that examples it is sure of count too (as in K-prune).
TEMPERATURE = 2.0
#: Outputs that are scores; the last two have one per token. Else those that are vectors, the first there is.
_LOGITS = ("logits", "start_logits", "end_logits")
_VECTORS = (OUTPUT, TOKENS, "last_hidden_state")


def mask_gradients(
    model: torch.nn.Module,
    places: Sequence[Sublayer],
    batches: Sequence[dict[str, torch.Tensor]],
    tick: Callable[[float], None] = lambda done: None,
) -> list[torch.Tensor]:
    """For each of `places` the gradient per example and unit, float32 (examples, units).

    `batches` are feeds with equal names. Raises PassError where a gradient is NaN.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    wanted = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False)
    chunks: list[list[torch.Tensor]] = [[] for _ in places]
    try:
        for number, feeds in enumerate(batches):
            size = len(next(iter(feeds.values())))
            masks = [torch.ones(size, p.units, requires_grad=True) for p in places]
            alive = [m for m in masks if m.shape[1]]
            with torch.enable_grad(), masked(dict(zip(places, masks))):
                value = _direction(model(**feeds), feeds.get("attention_mask"), generator)
                gradients = iter(torch.autograd.grad(value, alive))
            for rows, mask in zip(chunks, masks):
                rows.append(next(gradients) if mask.shape[1] else mask.detach())
            tick((number + 1) / len(batches))
    finally:
        for parameter, want in zip(model.parameters(), wanted):
            parameter.requires_grad_(want)
    result = [torch.cat(rows) for rows in chunks]
    if not all(torch.isfinite(g).all() for g in result):
        raise PassError("A gradient of the loss is NaN or infinite; the checkpoint's weights are damaged.")
    return result


def gradients_of(
    model: torch.nn.Module,
    on: Callable[[torch.Tensor], list[RemovableHandle]],
    units: int,
    batches: Sequence[dict[str, torch.Tensor]],
) -> torch.Tensor:
    """The same for one mask (examples, units) that `on(mask)` puts into the model by hooks, which it gives.

    float32 (examples, units).
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    gradients = []
    for feeds in batches:
        mask = torch.ones(len(next(iter(feeds.values()))), units, requires_grad=True)
        handles = on(mask)
        try:
            with torch.enable_grad():
                value = _direction(model(**feeds), feeds.get("attention_mask"), generator)
                gradients.append(torch.autograd.grad(value, mask)[0])
        finally:
            for handle in handles:
                handle.remove()
    return torch.cat(gradients)


def _direction(
    outputs: ModelOutput, attention_mask: torch.Tensor | None, generator: torch.Generator
) -> torch.Tensor:
    """The outputs along a random direction, a number."""
    import torch

    names = [n for n in _LOGITS if outputs.get(n) is not None]
    total: torch.Tensor | float = 0.0
    for name in names or [n for n in _VECTORS if n in outputs][:1]:
        values = outputs[name]
        per_token = values.dim() > 2 or name in _LOGITS[1:]
        told = values.detach() / TEMPERATURE
        if per_token and attention_mask is not None and values.shape[:2] == attention_mask.shape:
            values = values * attention_mask.reshape(*attention_mask.shape, *[1] * (values.dim() - 2))
            if values.dim() == 2:  # one softmax over all tokens: padding has no share of it
                told = told.masked_fill(attention_mask == 0, -torch.inf)
        noise = torch.randint(0, 2, values.shape, generator=generator) * 2.0 - 1.0
        if names and values.shape[-1] > 1:
            p = torch.softmax(told, dim=-1)
            noise = p.sqrt() * noise - p * (p.sqrt() * noise).sum(-1, keepdim=True)
        total = total + (values * noise).sum()
    return total
