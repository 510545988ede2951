"""Leave out whole layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import base_of, sublayers
from optkit.models.uneven.surgery import record

if TYPE_CHECKING:
    import torch


#: Attributes of a layer's modules in which decoders keep its number, for the cache.
_NUMBERS = ("layer_idx", "layer_id")


def keep_layers(model: torch.nn.Module, keep: Sequence[int]) -> None:
    """Keep the layers numbered `keep`, from 0, in place; config.json will say how many there are.

    Raises CheckpointError for an unknown architecture.
    """
    import torch

    places = sublayers(model)
    layers = [sublayer.layer for sublayer in places if sublayer.kind == "heads"]
    path = places[0].layout.layers
    base_of(model).set_submodule(path, torch.nn.ModuleList([layers[i] for i in keep]))
    for number, i in enumerate(keep):
        for module in layers[i].modules():
            for name in _NUMBERS:
                if hasattr(module, name):
                    setattr(module, name, number)
    model.config.num_hidden_layers = len(keep)
    kinds = getattr(model.config, "layer_types", None)  # decoders with more than one kind of attention
    if isinstance(kinds, list):
        model.config.layer_types = [kinds[i] for i in keep]
    if stages := getattr(model.config, "stage_names", None):  # DINOv2's, which is a backbone too
        model.config.stage_names = stages[: len(keep) + 1]
        model.config.set_output_features_output_indices(None, None)
    if getattr(model.config, CONFIG_KEY, None) is not None:
        record(model)
