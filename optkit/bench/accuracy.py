"""Outputs on disk, and PAIRED comparison of two models on the same examples.

Two models that are right on 88% of the examples each may differ on 2% or on 20% of them; only the
examples on which they differ say anything about the drop, so it is computed from pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import PassError

RESAMPLES = 4000


@dataclass(frozen=True)
class Paired:
    """`drop` is score(a) - score(b), with its 95% interval `low`..`high`, over `n` examples.

    `p_value` is McNemar's exact test where outcomes are right or wrong, else None.
    """

    drop: float
    low: float
    high: float
    n: int
    p_value: float | None


def paired_drop(a: np.ndarray, b: np.ndarray) -> Paired:
    """The loss in the mean of per-example outcomes from `a` to `b`, both of shape (examples,).

    The interval is a paired bootstrap's (Efron and Tibshirani 1993), the p value McNemar's (1947).

    >>> paired_drop(np.array([True, True, True, True]), np.array([True, True, False, True])).drop
    0.25
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    # Outcomes take three values, so a resample is a multinomial draw of how often each occurs.
    values, counts = np.unique(difference, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(a), counts / len(a), size=RESAMPLES)
    means = draws @ values / len(a)
    low, high = np.percentile(means, [2.5, 97.5])
    p_value = _mcnemar(int((difference > 0).sum()), int((difference < 0).sum())) if a.dtype == bool else None
    return Paired(float(difference.mean()), float(low), float(high), len(a), p_value)


def paired_drop_of(
    score: Callable[[np.ndarray, Sequence[Any]], float],
    a: np.ndarray,
    b: np.ndarray,
    references: Sequence[Any],
    resamples: int = 500,
) -> Paired:
    """The same for a `score` that is no mean over examples (F1, a correlation)."""
    truth = np.asarray(references)
    random = np.random.default_rng(0)
    drops = []
    for _ in range(resamples):
        pick = random.integers(0, len(truth), len(truth))
        drops.append(score(a[pick], truth[pick]) - score(b[pick], truth[pick]))
    low, high = np.nanpercentile(drops, [2.5, 97.5])
    return Paired(score(a, truth) - score(b, truth), float(low), float(high), len(truth), None)


def resolution(n: int, disagreement: float) -> float:
    """Half the width of the 95% interval of a drop, for `n` examples of which this share flips.

    Each flip moves the sum of outcomes by at most one, so the variance of the mean is at most
    disagreement / n.
    """
    return float(1.96 * np.sqrt(max(disagreement, 1 / n) / n)) if n else float("inf")


def save_outputs(file: Path, outputs: dict[str, list[np.ndarray]]) -> None:
    """Write per-example outputs as .npz. Raises PassError where one has NaN or infinity."""
    stored: dict[str, np.ndarray] = {}
    for name, rows in outputs.items():
        flat = np.concatenate([row.reshape(-1) for row in rows])
        if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
            bad = next(i for i, row in enumerate(rows) if not np.isfinite(row).all())
            raise PassError(
                f"The output {name!r} has NaN or infinity, first in example {bad}.",
                hint="The model overflows on this text; try a wider precision or another calibration.",
            )
        stored[f"data:{name}"] = flat
        stored[f"shape:{name}"] = np.array([row.shape for row in rows], dtype=np.int64)
    np.savez(file, **stored)  # type: ignore[arg-type]


def load_outputs(file: Path) -> dict[str, list[np.ndarray]]:
    """What `save_outputs` wrote: output name → one array per example."""
    with np.load(file, allow_pickle=False) as stored:
        outputs = {}
        for key in (k for k in stored if k.startswith("data:")):
            shapes = stored[f"shape:{key[5:]}"]
            cuts = np.cumsum(shapes.prod(axis=1))[:-1]
            parts = np.split(stored[key], cuts)
            outputs[key[5:]] = [p.reshape(s) for p, s in zip(parts, shapes)]
        return outputs


def _mcnemar(worse: int, better: int) -> float:
    """Exact two-sided p value: are the flips as likely one way as the other?"""
    n, k = worse + better, min(worse, better)
    if n == 0:
        return 1.0
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)
