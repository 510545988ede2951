"""How many units each sublayer keeps: the largest total importance within the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optkit.errors import PassError

#: Steps into which the budget is divided.
STEPS = 4000


def counts_allowed(units: int, multiple: int, minimum: int = 0) -> list[int]:
    """0, `multiple`, 2 × `multiple`, ... and `units` itself, none below `minimum`.

    >>> counts_allowed(40, 16)
    [0, 16, 32, 40]
    """
    return [n for n in sorted({*range(0, units, multiple), units}) if n >= minimum]


def allocate(
    gains: Sequence[np.ndarray],
    prices: Sequence[np.ndarray],
    allowed: Sequence[Sequence[int]],
    budget: float,
) -> list[int]:
    """Units per sublayer, n: the largest sum of `gains[s][n]` whose `prices[s][n]` fit the budget.

    A multiple-choice knapsack, solved over `STEPS` steps of the budget (prices are rounded up, so the
    budget always holds), which also fits costs that are not linear, such as a latency table. For equal
    unit costs this is the search of Kwon et al. 2022. Raises PassError where nothing fits.
    """
    unit = budget / STEPS
    best = np.zeros(STEPS + 1)
    choices = []
    for gain, price, counts in zip(gains, prices, allowed):
        table = np.full((len(counts), STEPS + 1), -np.inf)
        for row, n in enumerate(counts):
            steps = int(np.ceil(price[n] / unit - 1e-9))
            if steps <= STEPS:
                table[row, steps:] = best[: STEPS + 1 - steps] + gain[n]
        choice = table.argmax(axis=0)
        choices.append((choice, counts, price))
        best = table[choice, np.arange(STEPS + 1)]
    if not np.isfinite(best[-1]):
        least = sum(price[counts[0]] for price, counts in zip(prices, allowed))
        full = sum(price[counts[-1]] for price, counts in zip(prices, allowed))
        raise PassError(
            f"The budget cannot be met: at least {least / full:.1%} of the cost must stay, for each layer of "
            f"this architecture keeps a head; the share allows {budget / full:.1%}.",
            hint="Prune a smaller share.",
        )
    sizes, position = [], STEPS
    for choice, counts, price in reversed(choices):
        n = counts[choice[position]]
        sizes.append(n)
        position -= int(np.ceil(price[n] / unit - 1e-9))
    if not any(sizes):
        raise PassError(
            "The budget cannot be met: no head and no FFN block fits into it, so nothing would be left.",
            hint="Prune a smaller share, or a smaller ffn_multiple.",
        )
    return sizes[::-1]
