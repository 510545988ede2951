"""Optimization profiles: the ranges of batch and tokens that an engine's kernels are chosen for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optkit.errors import OptkitError

#: Matrix units work on tiles; sizes between their multiples gain nothing.
TILE = 8


@dataclass(frozen=True)
class Profile:
    """(min, opt, max) of the batch and of the tokens, both ends included."""

    batch: tuple[int, int, int]
    tokens: tuple[int, int, int]

    def fits(self, batch: int, tokens: int) -> bool:
        return self.batch[0] <= batch <= self.batch[2] and self.tokens[0] <= tokens <= self.tokens[2]

    def record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {name: list(value) for name, value in asdict(self).items()}


def plan(lengths: np.ndarray, longest: int, count: int, batch: tuple[int, int, int]) -> list[Profile]:
    """At most `count` profiles, shortest first, that hold an equal share of `lengths` each.

    Together they take every length from 1 to `longest` (what the model can take) without a gap;
    a profile is optimised for the median length within it.

    >>> [p.tokens for p in plan(np.array([5, 6, 30, 100]), 128, 2, (1, 8, 32))]
    [(1, 5, 24), (25, 65, 128)]
    """
    if len(lengths) == 0 or longest < 1:
        raise OptkitError(f"Expected lengths and a longest one of at least 1, received {longest}.")
    lengths = np.clip(lengths, 1, longest)
    cuts = np.quantile(lengths, [i / count for i in range(1, count)]) if count > 1 else np.array([])
    bounds = sorted({min(longest, -(-int(np.ceil(c)) // TILE) * TILE) for c in cuts} | {longest})
    profiles, low = [], 1
    for high in bounds:
        inside = lengths[(lengths >= low) & (lengths <= high)]
        opt = int(np.median(inside)) if len(inside) else (low + high) // 2
        profiles.append(Profile(batch, (low, opt, high)))
        low = high + 1
    return profiles


def choose(profiles: Sequence[Profile], batch: int, tokens: int) -> int | None:
    """The number of the first profile that takes the shape; None where no one does."""
    return next((i for i, p in enumerate(profiles) if p.fits(batch, tokens)), None)


def shape_of(dimensions: Sequence[int], batch: int, tokens: int) -> tuple[int, ...]:
    """A network input's dimensions with the dynamic ones (-1) filled: batch first, then tokens.

    >>> shape_of((-1, -1), 4, 16), shape_of((-1, 3, 224, 224), 4, 1)
    ((4, 16), (4, 3, 224, 224))
    """
    sizes = iter((batch, tokens))
    return tuple(next(sizes, tokens) if d == -1 else int(d) for d in dimensions)


def from_record(records: Sequence[Mapping[str, Sequence[int]]]) -> list[Profile]:
    """Profiles as `Profile.record` wrote them."""

    def three(values: Sequence[int]) -> tuple[int, int, int]:
        low, opt, high = map(int, values)
        if not 0 < low <= opt <= high < 2**31:
            raise ValueError(f"a profile of {low}, {opt}, {high}")
        return low, opt, high

    return [Profile(three(r["batch"]), three(r["tokens"])) for r in records]
