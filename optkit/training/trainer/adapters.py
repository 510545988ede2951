"""Low-rank adapters (LoRA) through peft: put into a network before training, merged into it before saving."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from optkit.errors import MissingDependency, RecipeError

if TYPE_CHECKING:
    import torch


def adapt(network: torch.nn.Module, backbone: torch.nn.Module, rank: int) -> Callable[[], None]:
    """Freeze `backbone`, a part of `network`, but for adapters of `rank` beside each of its linear layers.

    What lies outside of the backbone, the new head, trains whole. The function given back merges the
    adapters into the weights in place: the network then has its first shape and names again.
    Raises MissingDependency without peft, RecipeError where there is no linear layer.
    """
    import torch

    try:
        import peft
    except ImportError as reason:
        raise MissingDependency.of("peft", "lora") from reason
    from transformers.pytorch_utils import Conv1D

    inside = {id(p) for p in backbone.parameters()}
    linear = {id(m) for m in backbone.modules() if isinstance(m, (torch.nn.Linear, Conv1D))}
    targets = [name for name, module in network.named_modules() if id(module) in linear]
    if not targets:
        raise RecipeError("LoRA adapts linear layers; this model has none.", hint="Leave --lora out.")
    head = [p for p in network.parameters() if id(p) not in inside]
    # Twice the rank is what the paper's released settings have; the scale is then 2 for any rank.
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    tuner = peft.LoraModel(network, settings, "default")
    for parameter in head:
        parameter.requires_grad = True
    return lambda: tuner.merge_and_unload() and None
