"""Which operators go back to float until a goal is met: few full evaluations, not one per operator.

Operators are ranked beforehand by how far each, quantized alone, moves the outputs
(`optkit.passes.sensitivity`). How many of the most sensitive to keep in float is found by bisection,
and then a pass back quantizes again, in groups, what turns out harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: Groups tried on the way back: each costs one full evaluation.
GROUPS = 4


@dataclass
class Fallback:
    """`kept` are the operators that stay in float (None: the goal was not met); `trace` is each trial."""

    kept: tuple[str, ...] | None = None
    trace: list[str] = field(default_factory=list)


def fewest(ranked: Sequence[str], good: Callable[[tuple[str, ...]], tuple[bool, str]]) -> Fallback:
    """The fewest of `ranked` (most sensitive first) that, kept in float, meet the goal.

    `good(kept)` runs one full evaluation: whether the goal is met, and what was found, in words. All
    in float is not tried: that is the source. Bisection assumes that more in float is not worse;
    where that fails, what is returned still met the goal.

    >>> fewest("abcdefgh", lambda kept: ({"b", "c"} <= set(kept), "")).kept
    ('b', 'c')
    """
    found = Fallback()

    def trial(kept: tuple[str, ...], what: str) -> bool:
        met, said = good(kept)
        verdict = "met" if met else "missed"
        found.trace.append(
            f"{what}, {len(kept)} of {len(ranked)} in float: {verdict}{f' ({said})' if said else ''}"
        )
        return met

    low, high = 0, len(ranked)  # `low` is known to miss, `high` is the source itself
    while high - low > 1:
        middle = (low + high) // 2
        if trial(tuple(ranked[:middle]), "most sensitive back"):
            found.kept, high = tuple(ranked[:middle]), middle
        else:
            low = middle
    if found.kept:
        found.kept = _back(found.kept, trial)
    return found


def _back(kept: tuple[str, ...], trial: Callable[[tuple[str, ...], str], bool]) -> tuple[str, ...]:
    """`kept` without the groups that may be quantized again, the least sensitive first."""
    size = -(-len(kept) // GROUPS)
    groups = [kept[start : start + size] for start in range(0, len(kept), size)]
    for group in reversed(groups):
        fewer = tuple(name for name in kept if name not in group)
        if fewer and trial(fewer, "harmless quantized again"):
            kept = fewer
    return kept
