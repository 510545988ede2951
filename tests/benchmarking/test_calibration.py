"""How often `ratio_interval` claims a difference where there is none, by simulation.

The machine that is played: log-normal noise of 5% within a visit of 8 samples, single samples and
whole visits that are preempted now and then (3% of each, by a factor of 2 and 1.6 on average), a
drift of 10% between rounds that both candidates share, and a standard deviation of `process_sd` in
each candidate's time from process to process.
"""

from __future__ import annotations

import numpy as np
import pytest

from optkit.benchmarking.statistics import difference_shown, ratio_interval
from optkit.report.interval import Interval

TRIES = 150


def played(random, draws, rounds, process_sd, slowdown=1.0):
    """Samples of two candidates, of which the second is `slowdown` times slower."""
    drift = random.normal(0, 0.1, (draws, rounds, 1))

    def candidate(factor):
        logs = np.log(10 * factor) + drift + random.normal(0, process_sd, (draws, 1, 1))
        logs = logs + random.normal(0, 0.05, (draws, rounds, 8))
        logs = logs + (random.random((draws, rounds, 8)) < 0.03) * random.exponential(0.7, (draws, rounds, 8))
        logs = logs + (random.random((draws, rounds, 1)) < 0.03) * random.exponential(0.5, (draws, rounds, 1))
        return np.exp(logs)

    return candidate(1.0), candidate(slowdown)


def shown(draws, rounds, process_sd, slowdown=1.0, interval=ratio_interval) -> float:
    random = np.random.default_rng(7)
    found = [interval(*played(random, draws, rounds, process_sd, slowdown)) for _ in range(TRIES)]
    return sum(map(difference_shown, found)) / TRIES


def plain_bootstrap(a, b) -> Interval:
    """The percentile interval of a hierarchical bootstrap without any correction."""
    random = np.random.default_rng(0)
    logs = np.log(np.median(a, axis=2) / np.median(b, axis=2))
    draws, rounds = logs.shape
    picked = random.integers(0, draws, (400, draws))
    means = logs[picked[..., None], random.integers(0, rounds, (400, draws, rounds))].mean(axis=(1, 2))
    low, high = np.exp(np.percentile(means, [2.5, 97.5]))
    return Interval(float(np.exp(means.mean())), float(low), float(high))


@pytest.mark.parametrize(("draws", "rounds"), [(2, 6), (2, 20), (3, 10), (5, 6)])
@pytest.mark.parametrize("process_sd", [0.0, 0.015, 0.03])
def test_a_against_a_shows_no_difference(draws, rounds, process_sd):
    # 5% plus two standard errors of 150 tries.
    assert shown(draws, rounds, process_sd) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIES)


def test_a_plain_bootstrap_would_be_wrong_often():
    assert shown(2, 6, process_sd=0.03, interval=plain_bootstrap) > 0.15


def test_a_slowdown_of_twenty_percent_is_found():
    assert shown(3, 10, process_sd=0.015, slowdown=1.2) >= 0.9


def test_a_slowdown_of_five_percent_is_found_with_five_draws_on_a_quiet_machine():
    assert shown(5, 20, process_sd=0.005, slowdown=1.05) >= 0.9
