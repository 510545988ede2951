"""Which of the candidates that passed the gate is the fastest: `choose`, and the winner at every shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from optkit.bench.latency import Measurement, speedup
from optkit.bench.plan import Shape
from optkit.evaluation import HEADLINE
from optkit.report.model import Row, shapes_of

#: (faster, other) → whether the measurement leaves open which of the two is faster.
Tied = Callable[[Row, Row], bool]


def choose(
    rows: list[Row], leaves: list[str], shapes: tuple[str, ...] = (), tied: Tied = lambda a, b: False
) -> Row | None:
    """The fastest candidate that passed; when none did, the one with the best score.

    Fastest on the data's own lengths; those that are `tied` with it there are told apart by the geometric
    mean over all shapes, which alone decides where `shapes` were asked for.
    """
    candidates = [r for r in rows if r.name in leaves and r.verdict in ("passed", "failed")]
    passed = [r for r in candidates if r.verdict == "passed"]
    if not passed:
        return max(candidates, key=lambda r: r.score, default=None)
    if not shapes:
        first = max(passed, key=lambda r: r.speedup.value if r.speedup else 0.0)
        passed = [r for r in passed if r is first or tied(first, r)]
    return max(passed, key=_speed)


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


def winners(rows: list[Row], leaves: list[str]) -> list[dict[str, Any]]:
    """The fastest candidate at each shape, of those that passed (of all, where none did)."""
    candidates = [r for r in rows if r.name in leaves and r.verdict in ("passed", "failed")]
    candidates = [r for r in candidates if r.verdict == "passed"] or candidates
    found = []
    for shape in shapes_of(rows):
        timed = [(x.p50_ms, row) for row in candidates if (x := row.at(*shape))]
        if timed:
            p50, row = min(timed, key=lambda pair: pair[0])
            name = f"{shape[0]}x{shape[1]}"
            found.append({"shape": name, "row": row.name, "runtime": row.runtime, "p50_ms": round(p50, 4)})
    return found


def _speed(row: Row) -> float:
    """Geometric mean of the speedups over all shapes measured."""
    ratios = [x.speedup.value for x in row.latency if x.speedup and x.speedup.value > 0]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else 0.0
