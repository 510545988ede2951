"""Which of the candidates that passed the gate is kept: `choose` and why, and the winner at every shape.

"Score" below is the task's metric; where only fidelity was measured, the agreement with the user's model.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from optkit.benchmarking.latency import Measurement, speedup
from optkit.benchmarking.plan import Shape
from optkit.benchmarking.results import HEADLINE
from optkit.report.facts import Winner
from optkit.report.model import Row, quality, shapes_of

#: (faster, other) → whether the measurement leaves open which of the two is faster.
Tied = Callable[[Row, Row], bool]


def choose(
    rows: list[Row], leaves: list[str], shapes: tuple[str, ...] = (), tied: Tied = lambda a, b: False
) -> Row | None:
    """The fastest candidate that passed and that no other one beats; when none passed, the best score.

    One beats another where it is better in score and faster on the data's own lengths, by the estimates.
    Of those left, the fastest on the data's own lengths and those that are `tied` with it there are told
    apart by the score, then by that time, then by the geometric mean over all shapes, which alone decides
    where `shapes` were asked for. What is equal in all of these goes by name, so that the order of `rows`
    changes nothing.
    """
    candidates = [r for r in rows if r.name in leaves and r.verdict in ("passed", "failed")]
    passed = [r for r in candidates if r.verdict == "passed"]
    if not passed:
        return _first(candidates, quality, own_speed)
    left = unbeaten(passed)
    if shapes:
        return _first(left, _over_shapes, quality, own_speed)
    fastest = _first(left, own_speed, quality, _over_shapes)
    assert fastest is not None
    return _first([r for r in left if r is fastest or tied(fastest, r)], quality, own_speed, _over_shapes)


def unbeaten(rows: list[Row]) -> list[Row]:
    """Those of `rows` that no other one equals or beats in both score and speed on the data's own lengths.

    Speed is the ratio to the first row, paired in rounds. Where the plain medians say otherwise (they are
    not paired, but stand in the report's table), what is beaten by them as well in both is left out too:
    the best score never is, so one always remains.
    """
    front = [r for r in rows if not any(_dominates(x, r) for x in rows)]
    beaten = [r for r in front if any(_quicker(x, r) and quality(x) > quality(r) for x in rows)]
    return [r for r in front if r not in beaten]


def why(chosen: Row | None, rows: list[Row], leaves: list[str], shapes: tuple[str, ...] = ()) -> str:
    """One sentence: why `chosen` stands before the other candidates; "" where there is none."""
    if chosen is None:
        return ""
    what = "agreement" if math.isnan(chosen.score) else "score"
    if chosen.verdict != "passed":
        return f"{chosen.name} has the best {what} of the candidates, none of which passed."
    others = [r for r in rows if r.name in leaves and r.verdict == "passed" and r is not chosen]
    if not others:
        return f"{chosen.name} is the only candidate that passed."
    if shapes:
        return (
            f"{chosen.name} is the fastest over the shapes asked for, of those that passed and that none "
            f"beats in both {what} and time on the data's own lengths."
        )
    faster = [r.name for r in others if own_speed(r) > own_speed(chosen)]
    if not faster:
        return f"{chosen.name} is the fastest on the data's own lengths of the candidates that passed."
    return (
        f"{chosen.name} has the best {what} of those that passed and whose time on the data's own lengths "
        f"cannot be told from the fastest ({', '.join(faster)})."
    )


def own_speed(row: Row) -> float:
    """How many times as fast as the first row on the data's own lengths; 0 where that is not known."""
    value = row.speedup.value if row.speedup else 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def tied_in(measured: Measurement | None, headline: Shape = HEADLINE) -> Tied:
    """Tied: the interval of the ratio of the two, paired in the rounds that `measured` both, holds 1.

    Where nothing was measured, none are.
    """

    def tied(faster: Row, other: Row) -> bool:
        if measured is None:
            return False
        a, b = measured[other.name], measured[faster.name]
        shape = headline if headline in a.samples else next(iter(a.samples))
        return speedup(a, b, shape).low <= 1

    return tied


def winners(rows: list[Row], leaves: list[str]) -> list[Winner]:
    """The fastest candidate at each shape, of those that passed (of all, where none did).

    Of two with the same time there the better score wins.
    """
    candidates = [r for r in rows if r.name in leaves and r.verdict in ("passed", "failed")]
    candidates = [r for r in candidates if r.verdict == "passed"] or candidates
    fastest = []
    for shape in shapes_of(rows):
        timed = [
            (x.p50_ms, -quality(r), r.name, r) for r in candidates if (x := r.at(*shape)) and x.p50_ms > 0
        ]
        if timed:
            p50, _, name, row = min(timed, key=lambda one: one[:3])
            fastest.append(Winner(f"{shape[0]}x{shape[1]}", name, row.runtime, round(p50, 4)))
    return fastest


def _first(rows: list[Row], *keys: Callable[[Row], float]) -> Row | None:
    """The row with the largest keys, compared in their order; of equal ones the first by name."""
    return min(rows, key=lambda row: (*(-key(row) for key in keys), row.name), default=None)


def _dominates(a: Row, b: Row) -> bool:
    ours, theirs = (quality(a), own_speed(a)), (quality(b), own_speed(b))
    return ours != theirs and ours[0] >= theirs[0] and ours[1] >= theirs[1]


def _quicker(a: Row, b: Row) -> bool:
    """By the medians on the data's own lengths."""
    x, y = (row.at(HEADLINE.batch, HEADLINE.tokens) for row in (a, b))
    return x is not None and y is not None and x.p50_ms < y.p50_ms


def _over_shapes(row: Row) -> float:
    """Geometric mean of the speedups over all shapes measured."""
    ratios = [x.speedup.value for x in row.latency if x.speedup and x.speedup.value > 0]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0
