"""Cut the hidden dimension of an encoder: every layer reads and writes fewer numbers per token.

The norms then take mean and variance over what is left, so the result equals the model whose norms look at
the dimensions that stay only, not the one with zeros in it: a larger step than cutting heads or neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import select_columns, select_parameter, select_rows

if TYPE_CHECKING:
    import torch


def width_of(model: torch.nn.Module) -> int:
    """The hidden dimension, which config.json's hidden_size does not say of a model that was cut."""
    return (getattr(model.config, CONFIG_KEY, None) or {}).get("hidden") or model.config.hidden_size


def cut_width(model: torch.nn.Module, keep: Sequence[int], readers: Sequence[str]) -> None:
    """Keep the dimensions `keep` of the hidden state, in place; `readers` are the layers after the encoder
    that read it (see `readers_of`)."""
    import torch

    width, index = width_of(model), torch.tensor(list(keep))
    for sublayer in sublayers(model):
        for module in sublayer.inputs if sublayer.units else ():
            select_columns(module, index)
        if sublayer.units:
            select_rows(sublayer.output, index)
        elif sublayer.output.bias is not None:
            select_parameter(sublayer.output, "bias", 0, index)
        sublayer.output.out_features = len(index)
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
