"""Log-likelihood of given tokens: what is kept of a language model's logits, a vocabulary per token.

Where the feeds hold `TARGETS`, the token that each position should predict, the logits shrink to one
number per token as soon as a batch is answered: a thousand texts would not fit into memory otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TARGETS, OUTPUT = "targets", "log_likelihood"
#: A position whose next token does not count.
NONE = -100


def reduced(feeds: Mapping[str, np.ndarray], outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`outputs`, or, where `feeds` hold targets, `OUTPUT` (batch, tokens) in nats in place of `logits`."""
    if TARGETS not in feeds or "logits" not in outputs:
        return outputs
    rest = {name: value for name, value in outputs.items() if name != "logits"}
    rows = [_row(logits, targets) for logits, targets in zip(outputs["logits"], feeds[TARGETS])]
    return {**rest, OUTPUT: np.stack(rows)}


def _row(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(tokens, vocabulary) and (tokens,) → (tokens,); 0 where nothing is asked."""
    logits = logits.astype(np.float32)
    top = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=-1)) + top[:, 0]
    chosen = np.take_along_axis(logits, np.maximum(targets, 0)[:, None], axis=-1)[:, 0]
    return np.where(targets < 0, 0.0, chosen - total).astype(np.float32)
