"""What is tried until INT8 keeps its score: gentler rounding, then the most sensitive multiplies in float.

`search` asks for few full evaluations, not one per multiply: multiplies are ranked beforehand by how far
each, quantized alone, moves the outputs, for each microsecond that it saves. How many of them to keep in
float is found by bisection, and then a pass back quantizes again, in groups, what turns out harmless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optkit.passes.quantize_static import QuantizeStatic

#: Gentler rounding, tried one after the other, each with what helped before it; it costs little or no speed.
LADDER: tuple[dict[str, Any], ...] = (
    {"smooth_quant": 0.85},
    {"bias_correction": True},
    {"calibration": "percentile"},
)
#: Groups tried on the way back: each costs one full evaluation.
GROUPS = 4


@dataclass(frozen=True)
class Ranked:
    """A multiply: how far it moves the outputs when it alone is rounded, and how many µs INT8 saves it.

    `saved_us` is None where the runtime's profile does not name it.
    """

    name: str
    distance: float
    saved_us: float | None = None


@dataclass
class Fallback:
    """`in_float` are the multiplies that stay so (None: the goal was not met); `trace` is each trial."""

    in_float: tuple[str, ...] | None = None
    trace: list[str] = field(default_factory=list)


def search(
    step: QuantizeStatic,
    score: float,
    needed: float,
    attempt: Callable[[QuantizeStatic], float],
    rank: Callable[[QuantizeStatic], Sequence[Ranked]],
) -> list[str]:
    """Try changes of `step`, a `quantize-static`, until its score is at least `needed`; each trial in words.

    `score` is that of `step` itself. `attempt` makes and scores one candidate by a whole evaluation (minus
    infinity: it failed). In order: the ladder, the feed-forward blocks alone, then multiplies back to
    float, ranked by `rank` for the best step of the ladder.
    """
    trace: list[str] = []

    def tried(what: str, changed: QuantizeStatic) -> float:
        reached = attempt(changed)
        trace.append(f"{what}: {'met' if reached >= needed else 'missed'} ({_told(reached)})")
        return reached

    for fields in LADDER:
        if (gentler := replace(step, **fields)) == step:
            continue
        reached = tried(", ".join(f"{name} = {value}" for name, value in fields.items()), gentler)
        if reached >= needed:
            return trace
        if reached > score:
            step, score = gentler, reached
    if step.scope == "all":
        tried("only the feed-forward blocks in INT8", replace(step, scope="ffn"))
    ranked = by_worth(rank(step))
    trace.append("first back to float: " + ", ".join(map(_shown, ranked[:5])))

    def good(in_float: tuple[str, ...]) -> tuple[bool, str]:
        reached = attempt(replace(step, exclude=(*step.exclude, *in_float)))
        return reached >= needed, _told(reached)

    return trace + fewest([one.name for one in ranked], good).trace


def _told(score: float) -> str:
    return "it failed" if score == -math.inf else f"the score is {score:.4f}"


def by_worth(ranked: Sequence[Ranked]) -> list[Ranked]:
    """The most distance for each microsecond first: what to give up the speed of INT8 for.

    What the profile does not name counts as an average one; INT8 that saves nothing is given up first.

    >>> [one.name for one in by_worth([Ranked("a", 3.0, 10.0), Ranked("b", 2.0, 1.0)])]
    ['b', 'a']
    """
    known = [one.saved_us for one in ranked if one.saved_us is not None]
    average = max(sum(known) / len(known), 1e-3) if known else 1.0

    def worth(one: Ranked) -> float:
        saved = average if one.saved_us is None else max(one.saved_us, 1e-3 * average)
        return one.distance / saved

    return sorted(ranked, key=worth, reverse=True)


def fewest(ranked: Sequence[str], good: Callable[[tuple[str, ...]], tuple[bool, str]]) -> Fallback:
    """The fewest of `ranked` (most worth first) that, kept in float, meet the goal.

    `good(in_float)` runs one full evaluation: whether the goal is met, and what was found, in words. All
    in float is not tried: that is the source. Bisection assumes that more in float is not worse;
    where that fails, what is returned still met the goal.

    >>> fewest("abcdefgh", lambda names: ({"b", "c"} <= set(names), "")).in_float
    ('b', 'c')
    """
    result = Fallback()

    def trial(in_float: tuple[str, ...], what: str) -> bool:
        met, said = good(in_float)
        verdict = "met" if met else "missed"
        result.trace.append(
            f"{what}, {len(in_float)} of {len(ranked)} in float: {verdict}{f' ({said})' if said else ''}"
        )
        return met

    low, high = 0, len(ranked)  # `low` is known to miss, `high` is the source itself
    while high - low > 1:
        middle = (low + high) // 2
        if trial(tuple(ranked[:middle]), "most sensitive back"):
            result.in_float, high = tuple(ranked[:middle]), middle
        else:
            low = middle
    if result.in_float:
        result.in_float = _back(result.in_float, trial)
    return result


def _back(in_float: tuple[str, ...], trial: Callable[[tuple[str, ...], str], bool]) -> tuple[str, ...]:
    """`in_float` without the groups that may be quantized again, the least worth first."""
    size = -(-len(in_float) // GROUPS)
    groups = [in_float[start : start + size] for start in range(0, len(in_float), size)]
    for group in reversed(groups):
        fewer = tuple(name for name in in_float if name not in group)
        if fewer and trial(fewer, "harmless quantized again"):
            in_float = fewer
    return in_float


def _shown(one: Ranked) -> str:
    saved = "" if one.saved_us is None else f", INT8 saves {one.saved_us:.0f} µs"
    return f"{one.name} (moves outputs by {one.distance:.2e}{saved})"
