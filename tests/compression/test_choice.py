"""Which candidate is chosen, and what counts as a tie."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Shape
from optkit.benchmarking.timed_process import Measured
from optkit.compression.choice import choose, tied_in, why, winners
from optkit.report.interval import Interval
from optkit.report.model import Latency, Row, quality

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


def test_other_shapes_decide_only_between_equals_or_where_they_were_asked_for():
    rows = [timed("a", 3.0, 2.0), timed("b", 2.9, 4.0)]
    assert choose(rows, ["a", "b"], tied=lambda first, other: True).name == "a"
    assert choose([timed("a", 3.0, 2.0), timed("b", 3.0, 4.0)], ["a", "b"]).name == "b"
    rows[1].score = 0.91
    assert choose(rows, ["a", "b"], ("1xdata", "8x128")).name == "b"


def test_a_tie_is_one_between_the_two_not_beside_the_baseline():
    """Shared drift widens both speedups over the baseline; the ratio of the two is free of it."""
    rows = [timed("a", 3.0, 2.0), timed("b", 2.9, 4.0)]
    rows[1].score = 0.91
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
    assert [(w.shape, w.row) for w in winners(rows, ["a", "b"])] == [("1xdata", "a"), ("8x128", "b")]


def own(name: str, score: float, speed: float, p50: float) -> Row:
    found = row(name, score, speed, "passed")
    found.latency = [Latency(1, "data", p50, p50, p50, [], Interval(speed, speed, speed))]
    return found


def test_a_row_that_another_beats_in_score_and_time_is_never_chosen():
    """Seen in the field: shapes that nobody asked for had decided."""
    rows = [own("a", 0.8870, 3.0, 2.24), own("b", 0.8986, 4.5, 1.51), own("c", 0.8899, 5.4, 1.26)]
    for one, batch in zip(rows, (9.0, 2.0, 1.0)):
        one.latency.append(Latency(8, 128, 1, 1, 1, [], Interval(batch, batch, batch)))
    assert choose(rows, ["a", "b", "c"], tied=lambda first, other: True).name == "b"
    assert choose(rows, ["a", "b", "c"], ("8x128",), lambda first, other: True).name == "b"


def test_a_tie_in_time_goes_to_the_better_score():
    rows = [own("a", 0.90, 3.0, 2.0), own("b", 0.95, 2.9, 2.1), own("c", 0.99, 1.0, 6.0)]
    assert choose(rows, ["a", "b", "c"], tied=lambda first, other: other.name == "b").name == "b"
    sentence = why(rows[1], rows, ["a", "b", "c"])
    assert sentence.startswith("b has the best score of those")
    assert "cannot be told from the fastest (a)" in sentence


def test_without_scores_the_agreement_decides():
    rows = [own("a", math.nan, 3.0, 2.0), own("b", math.nan, 2.9, 2.1)]
    rows[0].agreement, rows[1].agreement = 0.97, 0.99
    assert choose(rows, ["a", "b"], tied=lambda first, other: True).name == "b"
    assert "best agreement" in why(rows[1], rows, ["a", "b"])
    rows[0].verdict = rows[1].verdict = "failed"
    assert choose(rows, ["a", "b"]).name == "b"


numbers = st.sampled_from([0.5, 0.8, 0.9, 0.91, 1.0, 2.0, math.nan])


@given(
    st.lists(st.tuples(numbers, numbers, numbers, numbers, st.booleans()), min_size=1, max_size=7),
    st.sampled_from([(), ("1xdata",), ("8x128", "1xdata")]),
    st.integers(0, 2**21 - 1),
    st.randoms(use_true_random=False),
)
def test_the_choice_is_never_dominated_and_the_order_of_rows_changes_nothing(values, shapes, ties, random):
    """Ties are any relation, not even a transitive one."""
    rows = []
    for i, (score, speed, p50, batch, passed) in enumerate(values):
        one = own(f"r{i}", score, speed, p50)
        one.agreement = math.nan
        one.latency.append(Latency(8, 128, 1, 1, 1, [], Interval(batch, batch, batch)))
        one.verdict = "passed" if passed else "failed"
        rows.append(one)

    def tied(faster: Row, other: Row) -> bool:
        a, b = sorted(int(x.name[1:]) for x in (faster, other))
        return bool(ties >> (a * 7 + b) % 21 & 1)

    leaves = [r.name for r in rows]
    chosen = choose(rows, leaves, shapes, tied)
    assert chosen is not None
    shuffled = random.sample(rows, len(rows))
    assert choose(shuffled, leaves[::-1], shapes, tied) is chosen
    assert why(chosen, rows, leaves, shapes).startswith(chosen.name)
    passed = [r for r in rows if r.verdict == "passed"]
    if not passed:
        assert all(quality(r) <= quality(chosen) for r in rows)
        return
    assert chosen in passed
    for other in passed:
        better = quality(other) > quality(chosen)
        assert not (better and other.speedup.value > chosen.speedup.value)
        assert not (better and other.latency[0].p50_ms < chosen.latency[0].p50_ms)
