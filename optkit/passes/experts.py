"""A mixture of experts in a graph: every expert answers every token, and those that were not chosen count 0.

transformers sorts tokens by their expert and multiplies group by group, in an operator of its own that no
exporter knows. A graph of fixed operators has no loop over what was chosen, so all experts work: right, and
as many times slower as there are experts per chosen one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optkit.models.pooling import encoder_of

if TYPE_CHECKING:
    import torch


NAME = "optkit_every_expert"


@contextmanager
def every_expert(model: torch.nn.Module) -> Iterator[None]:
    """Inside of it the experts of `model`, if it has any, are computed as above."""
    model = encoder_of(model)
    able = getattr(model, "_can_set_experts_implementation", None)
    if able is None or not able():
        yield
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(NAME, _forward)
    before = model.get_experts_implementation()
    model.set_experts_implementation(NAME)
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def _forward(
    module: torch.nn.Module, hidden: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor
) -> torch.Tensor:
    """hidden (tokens, width), chosen and shares (tokens, experts per token) → (tokens, width)."""
    import torch

    every = torch.zeros(hidden.shape[0], module.num_experts, dtype=shares.dtype, device=shares.device)
    every = every.scatter(1, chosen, shares)
    first = "gate_up_proj" if module.has_gate else "up_proj"
    inner = _products(module, hidden.unsqueeze(0), first)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    answers = _products(module, inner, "down_proj")
    if module.has_post_expert_norm:
        answers = module.post_expert_norm(answers)
    return (answers * every.t().unsqueeze(-1)).sum(dim=0).to(hidden.dtype)


def _products(module: torch.nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    """(experts or 1, tokens, in) by the weights `name` of each expert → (experts, tokens, out)."""
    weight = getattr(module, name)
    answer = x @ (weight if module.is_transposed else weight.transpose(1, 2))
    return answer + getattr(module, f"{name}_bias").unsqueeze(1) if module.has_bias else answer
