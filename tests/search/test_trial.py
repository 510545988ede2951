"""What a trial's loop chooses."""

from __future__ import annotations

import pytest

from optkit.report.model import Interval, Row
from optkit.search.trial import TrialLoop


def row(name: str, speed: float, size: int, memory: int, verdict: str = "passed") -> Row:
    ratio = Interval(speed, speed, speed)
    return Row(name, name, "fake", "int8", size, 0.9, 0, 1, [], ratio, memory, 0, verdict)


ROWS = (
    row("fast", 4.0, 100_000_000, 300_000_000),
    row("small", 2.0, 50_000_000, 200_000_000),
    row("smaller by a hair", 1.5, 49_900_000, 210_000_000),
    row("lean", 1.0, 90_000_000, 150_000_000),
    row("refused", 9.0, 1, 1, "failed"),
)


@pytest.mark.parametrize(("objective", "name"), [("latency", "fast"), ("size", "small"), ("memory", "lean")])
def test_the_objective_decides_and_where_it_is_alike_the_speed(objective, name):
    loop = object.__new__(TrialLoop)
    loop.rows, loop.leaves, loop.measured = list(ROWS), [r.name for r in ROWS], None
    loop.objective = objective
    assert loop.choose(()).name == name


def test_where_none_passed_the_best_score_whatever_the_objective():
    loop = object.__new__(TrialLoop)
    loop.rows, loop.measured, loop.objective = [row("a", 1, 1, 1, "failed")], None, "size"
    loop.leaves = ["a"]
    assert loop.choose(()).name == "a"
