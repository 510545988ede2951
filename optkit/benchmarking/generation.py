"""How fast text is generated: time to the first token, and tokens per second behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optkit.errors import OptkitError
from optkit.runtimes.base import Session
from optkit.runtimes.generation import Generation, generate


@dataclass(frozen=True)
class Speed:
    """`first_ms`: from the prompts, as tokens, to the first token of every text of the batch; `per_second`:
    tokens behind it, of all texts together."""

    first_ms: float
    per_second: float


def measure(
    session: Session,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Continue `prompts` as one batch by `tokens` tokens each, greedily; no text ends early.

    Raises OptkitError for fewer than two tokens, of which there is no rate.
    """
    if tokens < 2:
        raise OptkitError(f"Expected at least 2 tokens to generate, received {tokens}.")
    longest = max(map(len, prompts)) + tokens
    begun = clock()
    steps = generate(session.decoder(), prompts, Generation(tokens), frozenset(), longest)
    next(steps)
    first = clock()
    behind = sum(len(step) for step in steps)
    return Speed(1000 * (first - begun), behind / (clock() - first))
