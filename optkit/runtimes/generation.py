"""Text generation: from prompts to new tokens, one step at a time, on any session that can decode.

Prompts of different lengths are padded on the left, so that every row's newest token is the last one;
padding takes no position and is never attended to. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from optkit.core.quantities import COUNT, PROBABILITY, SEED, TEMPERATURE, TOKENS, check_all
from optkit.errors import DataError
from optkit.runtimes.base import Decoder

_QUANTITIES = {
    "max_new_tokens": TOKENS,
    "temperature": TEMPERATURE,
    "top_k": COUNT,
    "top_p": PROBABILITY,
    "seed": SEED,
}


@dataclass(frozen=True)
class Generation:
    """How text is generated.

    `temperature` 0 takes the likeliest token each time (greedy); above it, tokens are drawn: among the
    `top_k` likeliest (None: all), and among the fewest that hold `top_p` of the probability (1: all;
    A. Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020). The same `seed` draws the
    same tokens for a prompt at the same place, whatever else is in its batch.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_all(self, _QUANTITIES)


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    settings: Generation,
    ends: frozenset[int],
    longest: int,
    pad: int = 0,
    first: int = 0,
) -> Iterator[list[int | None]]:
    """The next token of each prompt, step by step; None for a row that has ended.

    A row ends with one of `ends` (which is given too), after `max_new_tokens`, or when prompt and text
    are `longest` tokens long. `first` is the place of the first prompt among all that were asked, for
    the seed. Raises DataError for a prompt that is empty or leaves no room.
    """
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < longest:
            raise DataError(
                f"Expected a prompt of 1 to {longest - 1} tokens, received one of {len(prompt)} at position "
                f"{first + i}."
            )
    width = max(map(len, prompts))
    tokens = np.full((len(prompts), width), pad, dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    randoms = [np.random.default_rng((settings.seed, first + row)) for row in range(len(prompts))]
    left = [min(settings.max_new_tokens, longest - len(prompt)) for prompt in prompts]
    while any(left):
        logits = decoder.step(tokens, mask)
        new: list[int | None] = [
            pick(logits[row], settings, randoms[row]) if left[row] else None for row in range(len(prompts))
        ]
        left = [0 if token in ends else max(0, n - 1) for token, n in zip(new, left)]
        yield new
        tokens = np.array([[pad if token is None else token] for token in new], dtype=np.int64)
        going_on = np.array([[token is not None] for token in new], dtype=np.int64)  # else positions run out
        mask = np.concatenate([mask, going_on], axis=1)


def pick(logits: np.ndarray, settings: Generation, random: np.random.Generator) -> int:
    """One token from `logits` (vocabulary,).

    >>> pick(np.array([0.0, 2.0, 1.0]), Generation(), np.random.default_rng(0))
    1
    """
    if settings.temperature == 0:
        return int(logits.argmax())
    total = np.cumsum(probabilities(logits, settings))
    return int(min(np.searchsorted(total, random.random() * total[-1], side="right"), len(total) - 1))


def probabilities(logits: np.ndarray, settings: Generation) -> np.ndarray:
    """What tokens are drawn from: softmax at the temperature, cut to top_k, then to top_p, (vocabulary,)."""
    scores = logits.astype(np.float64) / settings.temperature
    if settings.top_k is not None and settings.top_k < len(scores):
        scores[scores < np.partition(scores, -settings.top_k)[-settings.top_k]] = -np.inf
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    if settings.top_p < 1:
        order = np.argsort(-shares, kind="stable")
        before = np.cumsum(shares[order]) - shares[order]
        shares[order[before >= settings.top_p]] = 0.0
        shares /= shares.sum()
    return shares
