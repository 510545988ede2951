"""A causal language model as one ONNX graph with a cache: it reads a prompt, and goes on token by token.

Inputs and outputs are called as other exporters call them (input_ids, attention_mask, position_ids,
past_key_values.N.key/value → logits, present.N.key/value), so that other servers can run the graph. One is
ours: `logits_to_keep` holds the places whose logits are wanted; a prompt needs only its last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.models.limits import token_limit
from optkit.passes import torch_export
from optkit.runtimes import kv_cache
from optkit.runtimes.base import Session

if TYPE_CHECKING:
    import torch


#: Tokens of each example that the graph is compared with torch on: its logits hold a vocabulary per token.
CHECKED_TOKENS = 128
#: How many logits there may be of all examples together: 16 examples, where a vocabulary has 32,000 tokens.
CHECKED_LOGITS = 2**26


@dataclass(frozen=True)
class Traceable:
    """A causal language model with flat tensors in and out, and what it is traced with.

    `shapes` says which dimensions are dynamic, as torch.export takes it; `inputs` and `outputs` are names.
    """

    module: torch.nn.Module
    examples: tuple[torch.Tensor, ...]
    shapes: dict[str, Any]
    inputs: list[str]
    outputs: list[str]


def export(model: torch.nn.Module, file: Path, opset: int) -> None:
    """Write the graph of `model`, a transformers causal language model, to `file`."""
    graph = traceable(model)
    torch_export.save(
        graph.module, graph.examples, graph.shapes, graph.inputs, ["logits", *graph.outputs], file, opset
    )


def traceable(model: torch.nn.Module, keep: bool = True) -> Traceable:
    """`model` with its cache as tensors; `keep`: it is told of which tokens logits are wanted."""
    import torch
    from transformers import DynamicCache

    heads, size = cache_shape(model)
    longest = token_limit(model.config.to_dict()) or 2**20

    class Cached(torch.nn.Module):
        """Exporters know nothing of transformers' cache classes."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *rest: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            past = rest[1:] if keep else rest
            answer = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=DynamicCache(list(zip(past[::2], past[1::2]))),
                use_cache=True,
                logits_to_keep=rest[0] if keep else 0,
                return_dict=True,
            )
            present = [t for layer in answer.past_key_values.layers for t in (layer.keys, layer.values)]
            return answer.logits, *present

    # Sizes that differ from each other and from 1: equal ones would be taken for the same dimension.
    batch, new, before, logit_count = 2, 5, 3, 4
    examples = [
        torch.ones(batch, new, dtype=torch.int64),
        torch.ones(batch, before + new, dtype=torch.int64),
        torch.arange(before, before + new).repeat(batch, 1),
        *([torch.arange(logit_count)] if keep else []),
        *(torch.zeros(batch, n, before, size) for n in heads for _ in ("key", "value")),
    ]
    dim, anything = torch.export.Dim, torch.export.Dim.DYNAMIC
    of_batch, of_new = dim("batch", min=1, max=65536), dim("sequence", min=1, max=longest)
    of_past = {0: of_batch, 2: dim("past", min=0, max=longest - 1)}  # GPT-Neo reads from a table so long
    of_keep = [{0: dim("kept", min=1, max=2**20)}] if keep else []
    shapes = {
        "ids": {0: of_batch, 1: of_new},
        "mask": {0: of_batch, 1: anything},
        "positions": {0: of_batch, 1: of_new},
        "rest": (*of_keep, *(of_past for _ in range(2 * len(heads)))),
    }
    past, present = kv_cache.tensor_names(len(heads))
    named = ["input_ids", "attention_mask", kv_cache.POSITIONS, *([kv_cache.KEEP] if keep else []), *past]
    return Traceable(Cached(), tuple(examples), shapes, named, present)


def checked(samples: EncodedSet, vocabulary: int) -> EncodedSet:
    """`samples`, few and short enough to compare all of their logits, with the positions stated.

    Left alone, models count padding among the positions, and the graph does not.
    """
    few = max(2, CHECKED_LOGITS // (CHECKED_TOKENS * vocabulary))
    short = samples.take(np.arange(min(few, len(samples)))).cut(CHECKED_TOKENS)
    places = [np.arange(n) for n in short.lengths]
    return EncodedSet({**short.arrays, kv_cache.POSITIONS: places}, short.pad)


def cache_shape(model: torch.nn.Module) -> tuple[list[int], int]:
    """(heads of keys and values of each layer, head size) of what `model` keeps of a text.

    The model itself says so: configurations name them in many ways (Falcon's one shared head by a flag).
    """
    import torch
    from transformers import DynamicCache

    with torch.no_grad():
        cache = model(
            input_ids=torch.ones(1, 2, dtype=torch.int64), past_key_values=DynamicCache(), use_cache=True
        ).past_key_values
    return [layer.keys.shape[1] for layer in cache.layers], cache.layers[0].keys.shape[-1]


def cache_difference(session: Session, samples: EncodedSet, tolerance: float) -> float:
    """The largest difference of the logits behind each example: read at once, and with a cache in two steps.

    Raises PassError where it is above `tolerance`: then the graph would generate other texts.
    """
    worst = 0.0
    for ids in samples.arrays["input_ids"]:
        if len(ids) < 2:
            continue
        tokens, mask = ids[None], np.ones((1, len(ids)), dtype=np.int64)
        at_once = session.decoder().step(tokens, mask)
        decoder, cut = session.decoder(), len(ids) // 2
        decoder.step(tokens[:, :cut], mask[:, :cut])
        in_steps = decoder.step(tokens[:, cut:], mask)
        difference = np.abs(at_once - in_steps)
        worst = max(worst, float(difference.max()))
        if (difference > tolerance * (1 + np.abs(at_once))).any():
            raise PassError(
                f"Expected the graph to answer the same with its cache as without within {tolerance:g}, "
                f"received a difference of {worst:.3g}."
            )
    return worst
