"""Which candidate is chosen, and what counts as a tie."""

from __future__ import annotations

import pytest

from optkit.bench.latency import Measured, Measurement
from optkit.bench.plan import Shape
from optkit.choice import choose, tied_in, winners
from optkit.report.model import Interval, Latency, Row

OWN = Shape(1, "data")


def row(name: str, score: float, speed: float, verdict: str) -> Row:
    return Row(name, name, "fake", "int8", 1, score, 0, 1, [], Interval(speed, speed, speed), 1, 0, verdict)


def timed(name: str, own: float, batch: float) -> Row:
    found = row(name, 0.9, own, "passed")
    speeds = {(1, "data"): own, (8, 128): batch}
    found.latency = [
        Latency(*shape, 6 / x, 6 / x, 6 / x, [], Interval(x, x, x)) for shape, x in speeds.items()
    ]
    return found


def measured(**ms: float) -> Measurement:
    """Two processes of six rounds each, every visit as long as `ms` says, beside a drift that all share."""
    drift = [1.0, 1.3, 0.8, 1.1, 1.6, 0.9]
    return Measurement({n: Measured(n, {OWN: [[[x * d] for d in drift]] * 2}) for n, x in ms.items()})


def test_the_fastest_that_passed_is_chosen():
    rows = [row("a", 0.9, 2, "passed"), row("b", 0.8, 3, "passed"), row("c", 0.5, 9, "failed")]
    assert choose(rows, ["a", "b", "c"]).name == "b"


def test_what_own_lengths_do_not_tell_apart_all_shapes_do():
    rows = [timed("a", 3.0, 2.0), timed("b", 2.9, 4.0)]
    assert choose(rows, ["a", "b"], tied=lambda first, other: True).name == "b"
    assert choose(rows, ["a", "b"], tied=lambda first, other: False).name == "a"
    assert choose(rows, ["a", "b"], ("1xdata", "8x128")).name == "b"


def test_a_tie_is_one_between_the_two_not_beside_the_baseline():
    """Shared drift widens both speedups over the baseline; the ratio of the two is free of it."""
    rows = [timed("a", 3.0, 2.0), timed("b", 2.9, 4.0)]
    assert choose(rows, ["a", "b"], tied=tied_in(measured(a=2.0, b=2.04))).name == "b"
    assert choose(rows, ["a", "b"], tied=tied_in(measured(a=2.0, b=3.0))).name == "a"


def test_without_own_lengths_the_first_shape_decides_a_tie():
    found = Measurement(
        {n: Measured(n, {Shape(1, 16): [[[x]] * 6] * 2}) for n, x in (("a", 1.0), ("b", 1.0))}
    )
    assert tied_in(found)(row("a", 1, 1, "passed"), row("b", 1, 1, "passed"))


def test_when_none_passed_the_best_score_is_chosen():
    rows = [row("a", 0.7, 2, "failed"), row("b", 0.6, 3, "failed"), row("fp32", 0.9, 1, "baseline")]
    assert choose(rows, ["a", "b"]).name == "a"


def test_an_error_is_never_chosen():
    assert choose([row("a", 0.7, 2, "error")], ["a"]) is None


@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_every_shape_has_its_winner(verdict):
    rows = [timed("a", 3.0, 2.0), timed("b", 2.9, 4.0)]
    for one in rows:
        one.verdict = verdict
    assert [(w["shape"], w["row"]) for w in winners(rows, ["a", "b"])] == [("1xdata", "a"), ("8x128", "b")]
