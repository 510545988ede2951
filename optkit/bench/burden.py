"""A slowdown of known size, made of real work: what the self-check injects and looks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

#: Times that an answer, and a burst of the extra work, is timed to compare the two.
TRIES = 15
#: Steps of the extra work in a burst: long enough to time, short beside an answer.
BURST = 64
_NUMBERS = np.full(512, 1.0000001, dtype=np.float32)


def burn(steps: int) -> None:
    """So many steps of arithmetic on one core, a few microseconds each; all of it stays in the cache."""
    for _ in range(steps):
        np.sqrt(_NUMBERS)


def steps_for(
    share: float,
    answers: Sequence[Callable[[], object]],
    burn: Callable[[int], None],
    clock: Callable[[], float],
    tries: int = TRIES,
) -> list[int]:
    """How many steps to burn after each of `answers`, so that it takes longer by `share`.

    An answer and a burst are timed in turn, on the same clock speed. The number is fixed from then
    on: as in a model that does more work, the time of the extra work varies as the machine does.

    >>> clock = iter([0.0, 64.0, 64.0, 74.0]).__next__
    >>> steps_for(0.5, [lambda: None], lambda steps: None, clock, tries=1)
    [5]
    """
    found = []
    for answer in answers:
        bursts, times = [], []
        for _ in range(tries):
            begun = clock()
            burn(BURST)
            bursts.append(clock() - begun)
            begun = clock()
            answer()
            times.append(clock() - begun)
        step = max(float(np.median(bursts)), 1e-9) / BURST
        found.append(round(share * float(np.median(times)) / step))
    return found
