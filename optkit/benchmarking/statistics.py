"""Percentiles and speedups with 95% intervals, from raw samples.

Samples come as draws → rounds → samples: several fresh processes, several visits in each, several
repetitions in a visit. Rounds of two candidates are PAIRED: round r of draw p of both ran side by
side, so their ratio is free of the slow drift of a shared machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import atan, cos, exp, lgamma, log, nan, pi, sin, sqrt

import numpy as np

from optkit.errors import DataError
from optkit.report.interval import Interval

#: What one process draw of a candidate gave: per round, the samples of that visit in ms.
Rounds = Sequence[Sequence[float]]

CONFIDENCE = 0.95
#: Resamples of the rounds of a draw. They only estimate a variance, so a few hundred do.
RESAMPLES = 400
#: Standard deviation of a model's time between two processes, as a share, expected before measuring.
PROCESS_SD = 0.0275
#: How many draws that expectation counts for.
PROCESS_FREEDOM = 3


def difference_shown(ratio: Interval) -> bool:
    """Whether the interval excludes 1. False is an answer: "no difference shown".

    >>> difference_shown(Interval(1.04, 0.98, 1.10)), difference_shown(Interval(1.04, 1.01, 1.07))
    (False, True)
    """
    return ratio.low > 1 or ratio.high < 1


def ratio_interval(
    a: Sequence[Rounds],
    b: Sequence[Rounds],
    centre: str = "median",
    process_sd: float = PROCESS_SD,
    seed: int = 0,
) -> Interval:
    """Time of `a` over time of `b`, from paired rounds: `a[draw][round]` holds samples in ms.

    `centre` sums up a visit: "median" for a fixed shape, where all samples measure one thing, or
    "total" for a list of different batches, where the sum is what a user waits for.

    The estimate is the mean over draws of a trimmed mean over rounds of the log ratio. Its
    uncertainty has the two levels of a hierarchical bootstrap (Davison and Hinkley 1997, section 3.8):

    - rounds are resampled within each draw, which gives the variance of the draw's trimmed mean;
    - draws are too few to resample: two draws have three resamples. The level is Student's t instead,
      with the variance between draws moderated towards what is expected of processes, which counts
      for `PROCESS_FREEDOM` draws (Smyth 2004, "Linear models and empirical Bayes methods").

    What simulation found (2,000 comparisons of a model with itself per figure; 5% noise per sample,
    preempted samples and visits, a shared drift; tests/benchmarking/test_calibration.py repeats a part):
    with 3% between processes a difference is claimed in 1.2% of cases (2 draws of 6 rounds) to
    4.0% (8 draws of 20), where a plain percentile bootstrap claims one in 30% and 7%. With 0.5%
    it is 0.0%. Beyond the expectation it breaks down slowly: at most 8% with 4.5%. The price is
    power: 2 draws of 6 rounds find a slowdown of 20% in 8 of 10 cases, 2 of 20 one of 10% in 7;
    5% needs 5 draws of 20 rounds on a machine with 0.5% between processes; with 3%, 8 are too few.

    Raises DataError where no round has samples of both.

    >>> ratio_interval([[[2.0], [2.0]], [[2.0]]], [[[1.0], [1.0]], [[1.0]]]).value
    2.0
    """
    draws = [_log_ratios(x, y, centre) for x, y in zip(a, b)]
    draws = [draw for draw in draws if len(draw)]
    if not draws:
        raise DataError(
            "Expected samples of both candidates in at least one round, received none.",
            hint="One of the two stopped before the first round; its error says why.",
        )
    random = np.random.default_rng(seed)
    centres = np.array([_trimmed_mean(draw) for draw in draws])
    noise = float(np.mean([_variance_of_centre(draw, random) for draw in draws]))
    expected = 2 * process_sd**2 + noise  # twice: the processes of a and those of b both vary
    variance_between = float(np.var(centres, ddof=1)) if len(draws) > 1 else 0.0
    freedom = PROCESS_FREEDOM + len(draws) - 1
    variance = (PROCESS_FREEDOM * expected + (len(draws) - 1) * variance_between) / freedom
    half = student_quantile(0.5 + CONFIDENCE / 2, freedom) * sqrt(variance / len(draws))
    middle = float(centres.mean())
    return Interval(exp(middle), exp(middle - half), exp(middle + half))


def percentile(samples: Sequence[float] | np.ndarray, q: float, effect: float = 1.0) -> Interval:
    """The `q`-th percentile (0 to 100) with a 95% interval whose ends are samples themselves.

    The number of samples below a percentile is binomial whatever their distribution, so the
    interval is exact for independent samples (Conover, Practical Nonparametric Statistics, 3.2).
    `effect` is how many dependent samples say as much as one independent one (`design_effect`); the
    interval is as wide as that of so many fewer samples (Woodruff 1952).

    An end is NaN where the samples are too few to bound it on that side. Raises DataError for no samples or
    a `q` outside of 0 to 100.

    >>> percentile(range(1, 101), 50)
    Interval(value=50.5, low=40.0, high=61.0)
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n, p, tail = len(ordered), q / 100, (1 - CONFIDENCE) / 2
    if not n or not 0 <= p <= 1:
        raise DataError(f"Expected samples and a percentile of 0 to 100, received {n} samples and {q}.")
    if p in (0, 1):
        value = float(ordered[0 if p == 0 else -1])
        return Interval(value, nan if p == 0 else value, nan if p == 1 else value)
    worth = max(1, round(n / effect))
    below = _binomial_cdf(worth, p)  # P(at most k of the samples are below the percentile)
    lower = int(np.searchsorted(below, tail, side="right")) - 1  # the last k with P(at most k) <= tail
    upper = int(np.searchsorted(below, 1 - tail))
    value = float(np.percentile(ordered, q))
    # Between two samples the value is interpolated, and with a handful it can pass an end.
    low = min(float(ordered[lower * n // worth]), value) if lower >= 0 else nan
    high = max(float(ordered[-(-upper * n // worth)]), value) if -(-upper * n // worth) < n else nan
    return Interval(value, low, high)


def design_effect(groups: Sequence[Sequence[float]], q: float) -> float:
    """How many samples say as much about the `q`-th percentile as one independent sample would.

    1 where samples of one group (a visit) are no more alike than those of two; the size of a group
    where they are all alike. It is the variance of the share of samples below the percentile, taken
    over groups, against the binomial's (Kish 1965, Survey Sampling, section 5.4).

    >>> design_effect([[1.0] * 4, [9.0] * 4, [1.0] * 4, [9.0] * 4], 50) > 4
    True
    """
    groups = [group for group in groups if len(group)]
    every = np.concatenate(groups)
    value = np.percentile(every, q)
    p, n, k = float((every <= value).mean()), len(every), len(groups)
    if k < 2 or p in (0, 1):
        return 1.0
    off = np.array([(np.asarray(group) <= value).sum() - p * len(group) for group in groups])
    return max(1.0, float((off**2).sum()) * k / (k - 1) / (n * p * (1 - p)))


@cache
def student_quantile(p: float, freedom: int) -> float:
    """The `p` quantile of Student's t, found by bisection on its distribution function.

    >>> round(student_quantile(0.975, 5), 4)
    2.5706
    """
    if p < 0.5:
        return -student_quantile(1 - p, freedom)
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def _log_ratios(a: Rounds, b: Rounds, centre: str) -> np.ndarray:
    """Per round that both have, the log of the ratio of their centres."""
    if centre not in ("median", "total"):
        raise DataError(f"Expected the centre 'median' or 'total', received {centre!r}.")
    # The mean stands for the total: the number of passes over the list may differ between a and b.
    of = np.median if centre == "median" else np.mean
    pairs = [(x, y) for x, y in zip(a, b) if len(x) and len(y)]
    return np.array([log(float(of(x)) / float(of(y))) for x, y in pairs])


def _trimmed_mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, without the outermost fifth on each side: one preempted round decides nothing."""
    cut = values.shape[-1] // 5
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def _variance_of_centre(values: np.ndarray, random: np.random.Generator) -> float:
    """Variance of the trimmed mean of one draw, by resampling its rounds."""
    n = len(values)
    if n < 2:
        return 0.0
    resampled = values[random.integers(0, n, (RESAMPLES, n))]
    return float(np.var(_trimmed_mean(resampled))) * n / (n - 1)  # a bootstrap is that much too small


def _binomial_cdf(n: int, p: float) -> np.ndarray:
    """P(X <= k) for k of 0 to n - 1, X binomial. Shape (n,)."""
    k = np.arange(n)
    logs = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in range(n)])
    return np.cumsum(np.exp(logs + k * log(p) + (n - k) * log(1 - p)))


def _student_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0 and a whole number of degrees (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = atan(t / sqrt(freedom))
    term, total = (cos(angle), cos(angle)) if freedom % 2 else (1.0, 1.0)
    for k in range(2 + freedom % 2, freedom - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    if freedom % 2:
        inside = 2 / pi * (angle + (sin(angle) * total if freedom > 1 else 0.0))
    else:
        inside = sin(angle) * total
    return 0.5 + inside / 2
