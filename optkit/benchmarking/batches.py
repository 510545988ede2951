"""Which examples are answered together: the batches behind each kind of shape and scenario."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

#: Examples in one pass over the data's own lengths, enough for their histogram; larger batches take more.
DATA_EXAMPLES = 48
#: Queries in one pass over randomly arriving data.
STREAM_QUERIES = 24
#: The most examples in a pass over "all" data.
ALL_EXAMPLES = 1000

#: What a worker answers at once: a padded batch of inputs by name, or a list of raw inputs.
Item = dict[str, np.ndarray] | list[Any]


def data_batches(lengths: np.ndarray, batch: int, count: int | None = None) -> list[np.ndarray]:
    """Indices of batches that stand for the data: at most `count` examples at even quantiles of length.

    None: `DATA_EXAMPLES`, and where a batch is larger as many as fill two of them.
    Single examples come in a fixed shuffled order, as they would arrive; larger batches hold
    neighbours in length. `lengths` has the shape (examples,).

    >>> sorted(len(part) for part in data_batches(np.arange(100), 20, count=50))
    [10, 20, 20]
    """
    if count is None:
        count = DATA_EXAMPLES if batch <= DATA_EXAMPLES else 2 * batch
    even = _even(lengths, count)
    parts = [even[i : i + batch] for i in range(0, len(even), batch)]
    return [parts[i] for i in np.random.default_rng(0).permutation(len(parts))]


def shuffled(examples: int, batch: int, queries: int = STREAM_QUERIES, seed: int = 0) -> list[np.ndarray]:
    """Indices of `queries` batches of random examples, with replacement, as a load generator draws them.

    >>> [len(part) for part in shuffled(5, 8, queries=2)]
    [8, 8]
    """
    drawn = np.random.default_rng(seed).integers(0, examples, (queries, batch))
    return list(drawn)


def everything(lengths: np.ndarray, batch: int, count: int = ALL_EXAMPLES) -> list[np.ndarray]:
    """Indices of batches of the whole data, longest first, neighbours in length.

    Of more than `count` examples, `count` at even quantiles of length stand for all.
    """
    even = _even(lengths, count)[::-1]
    return [even[i : i + batch] for i in range(0, len(even), batch)]


def parts_of(
    tokens: str, lengths: np.ndarray, batch: int, offline_batch: int = 1, seed: int = 0
) -> list[np.ndarray]:
    """Indices of the batches of a shape in `optkit.benchmarking.plan.KINDS`; `offline_batch` for "all"."""
    if tokens == "stream":
        return shuffled(len(lengths), batch, seed=seed)
    return everything(lengths, offline_batch) if tokens == "all" else data_batches(lengths, batch)


def padding_share(lengths: np.ndarray, parts: Iterable[np.ndarray]) -> float:
    """The share of token slots that hold padding where each part is padded to its own longest example.

    >>> round(padding_share(np.array([2, 4, 6]), [np.array([0, 1]), np.array([2])]), 3)
    0.143
    """
    parts = [part for part in parts if len(part)]
    slots = sum(len(part) * int(lengths[part].max()) for part in parts)
    return 1 - sum(int(lengths[part].sum()) for part in parts) / slots if slots else 0.0


def arrivals(rate: float, seconds: float, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A Poisson process: arrival times in seconds from 0 to `seconds`, and which example each asks for.

    >>> times, which = arrivals(rate=100, seconds=2.0, examples=5, seed=0)
    >>> bool((np.diff(times) > 0).all()), times[-1] < 2, set(which.tolist()) == set(range(5))
    (True, np.True_, True)
    """
    random = np.random.default_rng(seed)
    # Twice as many gaps as expected, and some for a low rate, always reach the end.
    gaps = random.exponential(1 / rate, int(2 * rate * seconds) + 100)
    times = np.cumsum(gaps)
    times = times[times < seconds]
    return times, random.integers(0, examples, len(times))


def _even(lengths: np.ndarray, count: int) -> np.ndarray:
    """At most `count` examples at even quantiles of length, shortest first."""
    count = min(len(lengths), count)
    order = np.argsort(lengths, kind="stable")
    # The middle of each of `count` equal slices: the ends would over-represent the extremes.
    return order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
