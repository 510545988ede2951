"""MLPerf's scenarios: single-stream, multi-stream, offline and server, by LoadGen's rules.

Source: MLCommons inference policies, "Inference rules" (scenarios, early stopping) and LoadGen's
`early_stopping.cc` and `results.cc`. What differs: nothing is submitted or audited here, queries
come from numpy's generator, and the short defaults are marked as not meeting the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import numpy as np

from optkit.benchmarking.plan import Shape
from optkit.errors import RecipeError

#: The rules for a full run: every scenario runs at least this long, and offline has so many samples
#: (or all of the data, where that is less).
MIN_SECONDS = 600.0
MIN_SINGLE_STREAM = 1024
MIN_OFFLINE = 24_576
#: Confidence of the early-stopping estimate (LoadGen: c = 0.99, tolerance d = 0).
CONFIDENCE = 0.99

#: Scenario → the shape it is measured at. The server is a search of its own.
SHAPES = {
    "single-stream": Shape(1, "stream"),
    "multi-stream": Shape(8, "stream"),
    "offline": Shape(1, "all"),
}
SCENARIOS = (*SHAPES, "server")
#: The percentile that each scenario states.
PERCENTILE = {"single-stream": 90.0, "multi-stream": 99.0, "server": 99.0}


def early_stopping(samples_ms: Sequence[float] | np.ndarray, percentile: float) -> float | None:
    """An upper bound of the percentile that holds with 99% confidence; None: too few queries.

    The t-th largest latency, t the greatest number of queries over it that `passes` allows.

    >>> early_stopping(range(1, 101), 90), early_stopping(range(63), 90)
    (98.0, None)
    """
    ordered = np.sort(np.asarray(samples_ms, dtype=np.float64))
    n, t = len(ordered), 0
    while t + 1 < n and passes(n, t + 1, percentile):
        t += 1
    return float(ordered[n - t]) if t else None


def passes(queries: int, over: int, percentile: float) -> bool:
    """Whether `over` of `queries` queries beyond a bound still show that the percentile lies under it.

    I_p(n - t, t + 1) <= 1 - c, with the regularized incomplete beta function I: were the true
    percentile larger, so few queries beyond it would be seen in less than 1% of runs.

    >>> passes(459, 0, 99), passes(458, 0, 99)
    (True, False)
    """
    from scipy.special import betainc

    return over < queries and bool(betainc(queries - over, over + 1, percentile / 100) <= 1 - CONFIDENCE)


def queries_needed(percentile: float, over: int = 1) -> int:
    """The least number of queries of which `over` may lie beyond the bound; with 1, `early_stopping` tells.

    >>> queries_needed(90), queries_needed(99)
    (64, 662)
    """
    return next(n for n in count(over + 1) if passes(n, over, percentile))


@dataclass(frozen=True)
class Trial:
    """A server run at one rate: `p99_ms` is None where the queue only grew."""

    rate: float
    p99_ms: float | None
    queries: int
    seconds: float
    holds: bool


def highest_rate(
    attempt: Callable[[float], Trial], start: float, steps: int = 7, most: float = 1e6
) -> tuple[Trial | None, list[Trial]]:
    """The highest rate whose trial holds, and all trials: doubled or halved from `start`, then bisected.

    `steps` bounds the bisections; after them the rate is known to a factor of 2 ** (1 / 2 ** steps).
    None where not even a 64th of `start` holds.
    """
    if not start > 0:
        raise RecipeError(f"Expected a rate above 0 to start from, received {start}.")
    trials = [attempt(start)]
    while True:
        good = max((t for t in trials if t.holds), key=lambda t: t.rate, default=None)
        bad = min((t for t in trials if not t.holds), key=lambda t: t.rate, default=None)
        if good and bad:
            rate, steps = (good.rate * bad.rate) ** 0.5, steps - 1
        else:
            rate = trials[-1].rate * (2.0 if good else 0.5)
        if steps < 0 or (len(trials) > 6 and not (good and bad)) or rate > most:
            return good, trials
        trials.append(attempt(rate))


def trial(rate: float, reply: dict[str, Any], seconds: float, bound_ms: float, strict: bool) -> Trial:
    """What a worker's `serve` reply says about `rate`.

    By the rules (`strict`) so few queries may lie over `bound_ms` that early stopping passes, else
    the sample percentile must lie under it.
    """
    latencies = np.asarray(reply["latencies_ms"], dtype=np.float64)
    if not len(latencies) or reply["gave_up"]:
        return Trial(rate, None, len(latencies), seconds, False)
    p99_ms = float(np.percentile(latencies, 99.0))
    over = int((latencies > bound_ms).sum())
    holds = p99_ms <= bound_ms and (not strict or passes(len(latencies), over, 99.0))
    return Trial(rate, p99_ms, len(latencies), seconds, holds)


def trial_seconds(rate: float, least: float, strict: bool) -> float:
    """How long a trial at `rate` must be: `least`, and long enough for its percentile's queries."""
    wanted = queries_needed(99.0) if strict else 100
    return max(least, ceil(1.1 * wanted / rate))
