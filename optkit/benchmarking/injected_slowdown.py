"""A slowdown of known size, made of real work: what the self-check injects and looks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

#: Times that an answer and the extra work are timed to compare the two.
TRIES = 11
#: The first guess of how many steps there must be.
FIRST = 64
_NUMBERS = np.full(512, 1.0000001, dtype=np.float32)


def burn(steps: int) -> None:
    """So many steps of arithmetic on one core, about a microsecond each; all of it stays in the cache."""
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

    Answer and extra work are timed in turn, four times with a better guess: the first steps of a
    hundred take longer than the last, because the answer took the caches. The number is fixed from
    then on: as in a model that does more work, the time of the extra work varies as the machine does.

    >>> now = 0.0
    >>> def burn(steps):
    ...     globals()["now"] += steps * 0.001
    >>> def answer():
    ...     globals()["now"] += 1.0
    >>> steps_for(0.05, [answer], burn, lambda: now)
    [50]
    """
    return [_steps(share, answer, burn, clock, tries) for answer in answers]


def _steps(
    share: float,
    answer: Callable[[], object],
    burn: Callable[[int], None],
    clock: Callable[[], float],
    tries: int,
) -> int:
    steps = FIRST
    for _ in range(4):
        answers, burnt = [], []
        for _ in range(tries):
            begun = clock()
            answer()
            between = clock()
            burn(steps)
            answers.append(between - begun)
            burnt.append(clock() - between)
        step = max(float(np.median(burnt)), 1e-9) / steps
        steps = max(1, round(share * float(np.median(answers)) / step))
    return steps
