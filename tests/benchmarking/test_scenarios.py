from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.benchmarking.scenarios import (
    Trial,
    early_stopping,
    highest_rate,
    passes,
    queries_needed,
    trial,
    trial_seconds,
)
from optkit.errors import RecipeError


@pytest.mark.parametrize(("percentile", "least"), [(90, 64), (99, 662)])
def test_the_least_number_of_queries_is_that_of_the_rules(percentile, least):
    # The two figures that MLPerf's inference rules give for single-stream and the 99th percentile.
    assert queries_needed(percentile) == least
    assert early_stopping(range(least - 1), percentile) is None
    assert early_stopping(range(least), percentile) == least - 1


@pytest.mark.parametrize(("queries", "discarded"), [(2048, 172), (2116, 178), (2145, 181), (7469, 685)])
def test_early_stopping_discards_as_many_as_loadgen_does(queries, discarded):
    # "Would discard N highest latency queries" in the single-stream logs of published MLPerf results.
    assert early_stopping(range(queries), 90.0) == queries - discarded - 1


@pytest.mark.parametrize("over", [0, 1, 5])
def test_queries_needed_are_the_least_that_pass(over):
    least = queries_needed(99.0, over)
    assert passes(least, over, 99.0)
    assert not passes(least - 1, over, 99.0)
    assert not passes(least, over + 1, 99.0)


def test_fewer_queries_than_failures_never_pass():
    assert not passes(0, 0, 99.0)
    assert not passes(3, 3, 99.0)


@given(st.integers(64, 3000), st.sampled_from([90.0, 97.0, 99.0]))
def test_early_stopping_agrees_with_the_binomial_distribution(n, percentile):
    from scipy.stats import binom

    found, over = early_stopping(np.arange(n), percentile), 1 - percentile / 100
    allowed = np.flatnonzero(binom.cdf(np.arange(1, n), n, over) <= 0.01) + 1
    assert found == (n - max(allowed) if len(allowed) else None)


def test_early_stopping_bounds_the_percentile_in_99_of_100_runs():
    random = np.random.default_rng(0)
    runs = [early_stopping(random.exponential(size=1500), 99.0) for _ in range(2000)]
    beyond = np.mean([value < -np.log(0.01) for value in runs])
    assert beyond <= 0.015


def server(capacity):
    return lambda rate: Trial(rate, 10.0, 100, 5.0, holds=rate <= capacity)


@given(st.floats(1.0, 5000.0), st.floats(1.0, 5000.0))
def test_the_highest_rate_is_found_from_anywhere_near(capacity, start):
    best, trials = highest_rate(server(capacity), start)
    if capacity < start / 64:
        assert best is None
    elif capacity >= start * 64:
        assert best.rate == start * 64
    else:
        assert best.rate <= capacity < best.rate * 2 ** (1 / 2**7) * (1 + 1e-9)
    assert len(trials) <= 14


def test_a_rate_to_start_from_is_above_zero():
    with pytest.raises(RecipeError, match="above 0"):
        highest_rate(server(1), 0.0)


@pytest.mark.parametrize(
    ("latencies", "gave_up", "strict", "holds"),
    [
        ([10.0] * 200, False, False, True),
        ([10.0] * 195 + [200.0] * 5, False, False, False),
        ([10.0] * 200, True, False, False),
        ([], False, False, False),
        ([10.0] * 200, False, True, False),  # too few queries for the rules
        ([10.0] * 458, False, True, False),
        ([10.0] * 459, False, True, True),  # LoadGen: ln(1 - 0.99) / ln(0.99) queries, none of them late
        ([10.0] * 661 + [200.0], False, True, True),
        ([10.0] * 660 + [200.0], False, True, False),
    ],
)
def test_what_a_trial_says(latencies, gave_up, strict, holds):
    reply = {"latencies_ms": latencies, "gave_up": gave_up}
    assert trial(40.0, reply, 5.0, bound_ms=100.0, strict=strict).holds is holds


def test_a_trial_lasts_long_enough_for_its_percentile():
    assert trial_seconds(1000.0, 5.0, strict=True) == 5.0
    assert trial_seconds(10.0, 5.0, strict=True) * 10 >= 662
    assert trial_seconds(2.0, 5.0, strict=False) * 2 >= 100
