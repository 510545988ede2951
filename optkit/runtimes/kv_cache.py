"""The cache of a causal language model's graph: how its tensors are called, and what fills them at first.

A graph with a cache takes, beside the tokens, every layer's keys and values of the tokens before
(`past_key_values.0.key`, ...: batch × heads × past tokens × head size) and gives them back with the
new tokens' own behind them (`present.0.key`, ...). Without a past the sequence is read from its
beginning: so a graph with a cache also scores whole texts, and everything that feeds a model can feed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

PAST, PRESENT = "past_key_values.", "present."
#: Positions of the tokens, counted without padding; which of the new tokens' logits are wanted.
POSITIONS, KEEP = "position_ids", "logits_to_keep"


def tensor_names(layers: int) -> tuple[list[str], list[str]]:
    """Inputs and outputs of the cache, in the order of the layers.

    >>> tensor_names(1)
    (['past_key_values.0.key', 'past_key_values.0.value'], ['present.0.key', 'present.0.value'])
    """
    parts = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    return [PAST + part for part in parts], [PRESENT + part for part in parts]


def is_implied(name: str) -> bool:
    """Whether an input may be left out of the feeds: `completed` finds it."""
    return name.startswith(PAST) or name in (POSITIONS, KEEP)


def completed(feeds: Mapping[str, np.ndarray], inputs: Iterable[Any]) -> dict[str, np.ndarray]:
    """`feeds` with the implied ones among `inputs` added: no past, all logits.

    `inputs` have a `name`, a `shape` and a `dtype`, or ONNX Runtime's `type`.
    """
    all_feeds = dict(feeds)
    for spec in inputs:
        if spec.name in all_feeds or not is_implied(spec.name):
            continue
        if spec.name == POSITIONS:
            mask = feeds.get("attention_mask", np.ones_like(feeds["input_ids"]))
            all_feeds[POSITIONS] = positions(mask, feeds["input_ids"].shape[1])
        elif spec.name == KEEP:
            all_feeds[KEEP] = np.arange(feeds["input_ids"].shape[1], dtype=np.int64)
        else:
            all_feeds[spec.name] = empty(spec, len(feeds["input_ids"]))
    return all_feeds


def selected(feeds: Mapping[str, np.ndarray], inputs: Iterable[Any]) -> dict[str, np.ndarray]:
    """The feeds that a graph with `inputs` takes, completed."""
    inputs = list(inputs)
    whole = completed(feeds, inputs)
    return {spec.name: whole[spec.name] for spec in inputs}


def empty(spec: Any, batch: int) -> np.ndarray:
    """No past: (batch, heads, 0, head size)."""
    kind = str(getattr(spec, "dtype", None) or spec.type)
    return np.zeros((batch, spec.shape[1], 0, spec.shape[3]), np.float16 if "float16" in kind else np.float32)


def positions(attention_mask: np.ndarray, new: int) -> np.ndarray:
    """Positions of the last `new` tokens; padding, on whichever side, takes none.

    >>> positions(np.array([[0, 1, 1, 1]]), 3)
    array([[0, 1, 2]])
    """
    counted = np.maximum(np.cumsum(attention_mask, axis=1) - 1, 0)
    return np.ascontiguousarray(counted[:, -new:].astype(np.int64))
