"""Torch modules of transformers with another way forward than their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def with_forward(model: torch.nn.Module, forward: Callable[..., Any]) -> torch.nn.Module:
    """`model` whose `forward` is this one, in a class of the same name: copies of it have it too."""
    plain = type(model)
    changed = {"forward": wraps(plain.forward)(forward), "__module__": plain.__module__}
    model.__class__ = type(plain.__name__, (plain,), changed)
    return model


def by_last_end(model: torch.nn.Module) -> torch.nn.Module:
    """`model`; a classifier with a decoder (BART, T5) looks for the end of each text in that text alone.

    It classifies by the last end-of-text token. transformers takes all of a batch at once and deals them out
    evenly, so that one more in a text ("</s>" as its user wrote it) moves those of the texts behind it.
    """
    has_decoder = "decoder_input_ids" in signature(model.forward).parameters
    if not (has_decoder and type(model).__name__.endswith("ForSequenceClassification")):
        return model
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    def forward(
        self: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **more: Any,
    ) -> SequenceClassifierOutput:
        if hasattr(self, "_shift_right"):  # T5; the others' own body does so
            more["decoder_input_ids"] = self._shift_right(input_ids)
        body = getattr(self, self.base_model_prefix)
        outputs = body(input_ids=input_ids, attention_mask=attention_mask, **{**more, "use_cache": False})
        states = outputs[0]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (input_ids.eq(self.config.eos_token_id) * places).amax(dim=1)
        ends = states.gather(1, last.reshape(-1, 1, 1).expand(-1, 1, states.shape[-1])).squeeze(1)
        return SequenceClassifierOutput(logits=self.classification_head(ends))

    return with_forward(model, forward)
