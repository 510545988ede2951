"""Ratios with intervals, and percentiles with intervals, from raw samples.

Samples come as draws → rounds → samples: several fresh processes, several visits in each, several
repetitions in a visit. Rounds of two candidates are PAIRED: round r of both ran side by side, so
their ratio is free of the slow drift of a shared machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Rounds = Sequence[Sequence[float]]

RESAMPLES = 2000
#: Standard deviation of the log ratio between processes that is assumed beyond what a few draws show.
PROCESS_SD = 0.02


@dataclass(frozen=True)
class Ratio:
    """`value` with its 95% interval; above 1: the second candidate is faster."""

    value: float
    low: float
    high: float

    @property
    def difference_shown(self) -> bool:
        """Whether the interval excludes 1."""
        return self.low > 1 or self.high < 1


def ratio_interval(a: Sequence[Rounds], b: Sequence[Rounds], seed: int = 0) -> Ratio:
    """Time of `a` over time of `b`, from paired rounds.

    Per round the ratio of medians; over all rounds the mean of the logarithms. The interval is a
    hierarchical bootstrap (draws, then rounds within a draw; Davison and Hinkley 1997, §3.8). With
    the two or three draws one can afford, a bootstrap over draws alone is too narrow, so its
    spread is joined with a floor for the variance between processes (`PROCESS_SD`), and scaled by
    Student's t for the number of rounds. benchmarks/aa.py measures what that gives.
    """
    logs = [
        np.array([np.log(np.median(x) / np.median(y)) for x, y in zip(draw_a, draw_b)])
        for draw_a, draw_b in zip(a, b)
    ]
    logs = [draw for draw in logs if len(draw)]
    if not logs:
        raise ValueError("Expected at least one round, received none.")
    centre = float(np.mean([_robust_mean(draw) for draw in logs]))
    random = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        picked = random.integers(0, len(logs), len(logs))
        means[i] = np.mean([_robust_mean(random.choice(logs[d], len(logs[d]))) for d in picked])
    rounds = sum(len(draw) for draw in logs)
    spread = np.sqrt(np.var(means) * _small_sample(len(logs), rounds) + PROCESS_SD**2 / len(logs))
    half = float(_student(max(rounds - 1, 1)) * spread)
    return Ratio(float(np.exp(centre)), float(np.exp(centre - half)), float(np.exp(centre + half)))


def percentile_interval(samples: Sequence[float], q: float) -> tuple[float, float, float]:
    """The q-th percentile (0 to 100) with a 95% interval from order statistics.

    The rank of a percentile is binomial whatever the distribution; a normal approximation of that
    rank is used, cut off at the ends. Source: Conover, Practical Nonparametric Statistics, §3.2.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n, p = len(ordered), q / 100
    half = 1.96 * np.sqrt(n * p * (1 - p))
    low = int(np.clip(np.floor(n * p - half), 0, n - 1))
    high = int(np.clip(np.ceil(n * p + half), 0, n - 1))
    return float(np.percentile(ordered, q)), float(ordered[low]), float(ordered[high])


def _robust_mean(logs: np.ndarray) -> float:
    """The mean without the outermost fifth on each side: one preempted round does not decide."""
    cut = len(logs) // 5
    ordered = np.sort(logs)
    return float(ordered[cut : len(ordered) - cut].mean())


def _small_sample(draws: int, rounds: int) -> float:
    """A bootstrap of n values has a variance (n - 1) / n too small, at each level."""
    per_draw = max(rounds / draws, 2)
    return (draws / (draws - 1) if draws > 1 else 1.0) * per_draw / (per_draw - 1)


def _student(freedom: int) -> float:
    """The 97.5% quantile of Student's t (Abramowitz and Stegun 26.7.5), within 1% from 3 on."""
    z = 1.959964
    if freedom <= 2:
        return {1: 12.706, 2: 4.303}[freedom]
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
