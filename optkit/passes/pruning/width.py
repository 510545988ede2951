"""Which dimensions of an encoder's hidden state matter, and which layers read it. `hidden.py` cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import CheckpointError
from optkit.models.pooling import is_pooled
from optkit.models.uneven.hidden import width_of
from optkit.models.uneven.layout import sublayers
from optkit.passes.pruning.gradients import gradients_of

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle


#: Encoders in which all that reads and writes the hidden state is known.
KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")


def readers_of(model: torch.nn.Module, feeds: dict[str, Any]) -> list[str]:
    """Names of the linear layers after the encoder whose input is its hidden state, or one token of it.

    Found by running the model on `feeds`: a pooler reads it, the classifier behind the pooler does not.
    Raises CheckpointError for an architecture or head in which that is not known.
    """
    import torch

    check_width_of(model.config.model_type, is_pooled(model))
    base = getattr(model, model.base_model_prefix, model)
    layers = {id(m) for sublayer in sublayers(model) for m in sublayer.layer.modules()}
    seen: dict[str, Any] = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: i[0]}))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in layers
    ]
    handles.append(base.register_forward_hook(lambda m, i, o: seen.update({"": o[0]})))
    try:
        with torch.no_grad():
            model(**feeds)
    finally:
        for handle in handles:
            handle.remove()
    last = seen.pop("")
    return [n for n, x in seen.items() if any(_same(x, y) for y in (last, last[:, 0], last[:, -1]))]


def check_width_of(kind: str, pooled: bool) -> None:
    """Raise CheckpointError where the hidden dimension of the model_type `kind` cannot be cut, or where the
    vectors themselves are the answer (`pooled`)."""
    if kind not in KINDS or pooled:
        raise CheckpointError(
            f"Cannot cut the hidden dimension of {f'embeddings ({kind})' if pooled else repr(kind)}.",
            hint=f"Known: {', '.join(KINDS)}, with a head for texts, tokens or answers.",
        )


def importance(model: torch.nn.Module, batches: Sequence[dict[str, torch.Tensor]]) -> np.ndarray:
    """Fisher information of a mask on the hidden state after every norm, (hidden,)."""
    base = getattr(model, model.base_model_prefix, model)
    width = width_of(model)
    norms = [m for m in base.modules() if getattr(m, "normalized_shape", None) == (width,)]

    def on(mask: torch.Tensor) -> list[RemovableHandle]:
        return [n.register_forward_hook(lambda m, i, output: output * mask[:, None]) for n in norms]

    return gradients_of(model, on, width, batches).double().square().mean(dim=0).numpy()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a == b).all())
