"""Cut the hidden dimension of an encoder: every layer reads and writes fewer numbers per token.

The norms then take mean and variance over what is left, so the result equals the model whose norms look at
the kept dimensions only, not the one with zeros in it: a larger step than cutting heads or neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optkit.errors import CheckpointError
from optkit.pruning import CONFIG_KEY
from optkit.pruning.gradients import gradients_of
from optkit.pruning.layout import sublayers
from optkit.pruning.surgery import select_columns, select_parameter, select_rows

#: Encoders in which all that reads and writes the hidden state is known.
KINDS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")


def width_of(model: Any) -> int:
    """The hidden dimension, which config.json's hidden_size does not say of a model that was cut."""
    return (getattr(model.config, CONFIG_KEY, None) or {}).get("hidden") or model.config.hidden_size


def cut_width(model: Any, keep: Sequence[int], readers: Sequence[str]) -> None:
    """Keep the dimensions `keep` of the hidden state, in place; `readers` are the layers after the encoder
    that read it (see `readers_of`)."""
    import torch

    width, index = width_of(model), torch.tensor(list(keep))
    for place in sublayers(model):
        for module in place.inputs if place.units else ():
            select_columns(module, index)
        if place.units:
            select_rows(place.output, index)
        elif place.output.bias is not None:
            select_parameter(place.output, "bias", 0, index)
        place.output.out_features = len(index)
    base = getattr(model, model.base_model_prefix, model)
    for module in base.modules():
        if isinstance(module, torch.nn.LayerNorm) and module.normalized_shape == (width,):
            for name in ("weight", "bias"):
                select_parameter(module, name, 0, index)
            module.normalized_shape = (len(index),)
        elif isinstance(module, torch.nn.Embedding) and module.embedding_dim == width:
            select_parameter(module, "weight", 1, index)
            module.embedding_dim = len(index)
    if getattr(base, "embeddings_project", None) is not None:  # ELECTRA's narrower embeddings
        select_rows(base.embeddings_project, index)
    for name in readers:
        select_columns(model.get_submodule(name), index)
    shape = dict(getattr(model.config, CONFIG_KEY, None) or {})
    setattr(model.config, CONFIG_KEY, {**shape, "hidden": len(index), "readers": list(readers)})


def readers_of(model: Any, feeds: dict[str, Any]) -> list[str]:
    """Names of the linear layers after the encoder whose input is its hidden state, or one token of it.

    Found by running the model on `feeds`: a pooler reads it, the classifier behind the pooler does not.
    Raises CheckpointError for an architecture or head in which that is not known.
    """
    import torch

    check_width_of(model.config.model_type, hasattr(model, "pooling"))
    base = getattr(model, model.base_model_prefix, model)
    layers = {id(m) for place in sublayers(model) for m in place.layer.modules()}
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


def importance(model: Any, batches: Sequence[dict[str, Any]]) -> np.ndarray:
    """Fisher information of a mask on the hidden state after every norm, (hidden,)."""
    base = getattr(model, model.base_model_prefix, model)
    width = width_of(model)
    norms = [m for m in base.modules() if getattr(m, "normalized_shape", None) == (width,)]

    def on(mask: Any) -> list[Any]:
        return [n.register_forward_hook(lambda m, i, output: output * mask[:, None]) for n in norms]

    return gradients_of(model, on, width, batches).double().square().mean(dim=0).numpy()


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool((a == b).all())
