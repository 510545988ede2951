from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from optkit.benchmarking.statistics import (
    design_effect,
    difference_shown,
    percentile,
    ratio_interval,
    student_quantile,
)
from optkit.errors import DataError
from optkit.report.interval import Interval


def constant(ms: float, draws: int = 3, rounds: int = 6) -> list[list[list[float]]]:
    return [[[ms] * 4] * rounds] * draws


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 9, 10, 31])
@pytest.mark.parametrize("p", [0.025, 0.5, 0.6, 0.9, 0.975, 0.999])
def test_student_quantile_is_scipys(p, freedom):
    assert student_quantile(p, freedom) == pytest.approx(scipy.stats.t.ppf(p, freedom), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("n", [1, 10, 50, 999])
@pytest.mark.parametrize("q", [1, 25, 50, 90, 99])
def test_percentile_interval_is_scipys(n, q):
    values = np.random.default_rng(n).exponential(size=n)
    expected = scipy.stats.quantile_test(values, p=q / 100).confidence_interval(0.95)
    found = percentile(values, q)
    assert found.low == pytest.approx(expected.low, rel=0, nan_ok=True)
    assert found.high == pytest.approx(expected.high, rel=0, nan_ok=True)
    assert found.value == np.percentile(values, q)


def test_few_samples_do_not_bound_a_high_percentile():
    assert math.isnan(percentile(range(50), 99).high)


def test_the_extremes_are_bounded_on_one_side_only():
    assert percentile([3, 1, 2], 100).low == 3
    assert math.isnan(percentile([3, 1, 2], 0).low)


@pytest.mark.parametrize(("samples", "q"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_percentile_refuses(samples, q):
    with pytest.raises(DataError, match="Expected samples"):
        percentile(samples, q)


def test_ratio_is_baseline_over_candidate():
    ratio = ratio_interval(constant(30.0), constant(10.0))
    assert ratio.value == pytest.approx(3.0)
    assert ratio.low < 3.0 < ratio.high
    assert difference_shown(ratio)


def test_the_same_shows_no_difference():
    assert not difference_shown(ratio_interval(constant(10.0), constant(10.0)))


@pytest.mark.parametrize(("low", "high", "shown"), [(0.9, 1.1, False), (1.0, 1.1, False), (0.8, 0.9, True)])
def test_a_difference_is_shown_when_the_interval_excludes_one(low, high, shown):
    assert difference_shown(Interval((low + high) / 2, low, high)) is shown


def test_drift_of_the_machine_cancels_in_the_pairs():
    drift = np.exp(np.random.default_rng(0).normal(0, 0.5, (3, 6)))
    a = [[[20 * x] * 3 for x in draw] for draw in drift]
    b = [[[10 * x] * 3 for x in draw] for draw in drift]
    noisy, quiet = ratio_interval(a, b), ratio_interval(constant(20.0), constant(10.0))
    assert noisy.value == pytest.approx(2.0)
    assert (noisy.low, noisy.high) == pytest.approx((quiet.low, quiet.high))


def test_one_preempted_round_does_not_move_the_ratio():
    a, b = constant(10.0, rounds=6), constant(10.0, rounds=6)
    b = [[[500.0] * 4, *draw[1:]] for draw in b]
    assert ratio_interval(a, b).value == pytest.approx(1.0)


def test_total_counts_all_batches_and_median_does_not():
    a, b = [[[1.0, 1.0, 10.0]] * 5] * 2, [[[1.0, 1.0, 4.0]] * 5] * 2
    assert ratio_interval(a, b, centre="total").value == pytest.approx(2.0)
    assert ratio_interval(a, b, centre="median").value == pytest.approx(1.0)


def test_total_is_per_pass_when_the_passes_differ():
    assert ratio_interval([[[1.0, 3.0] * 4]], [[[1.0, 3.0]]], centre="total").value == pytest.approx(1.0)


def test_more_draws_and_rounds_narrow_the_interval():
    random = np.random.default_rng(0)

    def width(draws, rounds):
        make = lambda: random.lognormal(2, 0.05, (draws, rounds, 8)).tolist()  # noqa: E731
        ratio = ratio_interval(make(), make())
        return ratio.high - ratio.low

    assert width(5, 20) < width(2, 20) < width(2, 5)


def test_rounds_that_only_one_has_are_left_out():
    a = [[[2.0], [2.0], [2.0]], [[2.0]]]
    b = [[[1.0], [], [1.0]], []]
    assert ratio_interval(a, b).value == pytest.approx(2.0)


@pytest.mark.parametrize(("a", "b"), [([], []), ([[]], [[[1.0]]]), ([[[1.0]]], [[[]]])])
def test_no_pair_of_rounds_is_refused(a, b):
    with pytest.raises(DataError, match="at least one round"):
        ratio_interval(a, b)


def test_an_unknown_centre_is_refused():
    with pytest.raises(DataError, match="'mode'"):
        ratio_interval(constant(1.0), constant(1.0), centre="mode")


milliseconds = st.floats(0.01, 1e4)
visits = st.lists(
    st.lists(st.lists(milliseconds, min_size=1, max_size=4), min_size=1, max_size=6), min_size=1, max_size=4
)


@given(a=visits, b=visits)
@settings(max_examples=40)
def test_swapping_the_two_inverts_the_ratio(a, b):
    there, back = ratio_interval(a, b), ratio_interval(b, a)
    assert there.low <= there.value <= there.high
    assert there.value == pytest.approx(1 / back.value)
    assert there.low == pytest.approx(1 / back.high)


@given(a=visits, b=visits, factor=st.floats(0.1, 10))
@settings(max_examples=40)
def test_the_unit_of_time_does_not_matter(a, b, factor):
    scaled = lambda x: [[[factor * v for v in visit] for visit in draw] for draw in x]  # noqa: E731
    first, second = ratio_interval(a, b), ratio_interval(scaled(a), scaled(b))
    assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 100))
@settings(max_examples=60)
def test_a_percentile_lies_in_its_interval(samples, q):
    found = percentile(samples, q)
    assert not found.low > found.value  # NaN: not bounded on this side
    assert not found.high < found.value


def visits(random, alike, count=24, size=10):
    """Visits whose samples share a part of their deviation: `alike` of 0 to 1."""
    shared = random.normal(0, alike**0.5, (count, 1))
    return shared + random.normal(0, (1 - alike) ** 0.5, (count, size))


def test_the_design_effect_is_that_of_the_samples():
    random = np.random.default_rng(0)
    apart = np.mean([design_effect(visits(random, 0.0), 50) for _ in range(50)])
    same = np.mean([design_effect(visits(random, 0.999), 50) for _ in range(50)])
    assert 1.0 <= apart < 1.4
    assert same == pytest.approx(10, rel=0.1)
    assert design_effect([[1.0, 2.0]], 50) == 1.0  # one visit tells nothing about others
    assert design_effect([[1.0], [1.0]], 50) == 1.0


@pytest.mark.parametrize(("alike", "q"), [(0.0, 50), (0.5, 50), (0.5, 90)])
def test_percentile_intervals_cover_the_truth_when_visits_differ(alike, q):
    random, inside = np.random.default_rng(0), 0
    truth = scipy.stats.norm.ppf(q / 100)
    for _ in range(300):
        samples = visits(random, alike)
        found = percentile(samples.ravel(), q, design_effect(samples, q))
        inside += found.low <= truth <= found.high
    assert inside / 300 >= 0.91


def test_dependent_samples_widen_the_interval():
    samples = np.arange(200.0)
    narrow, wide = percentile(samples, 50), percentile(samples, 50, effect=10)
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high
    assert math.isnan(percentile(samples, 99, effect=10).high)
