"""How near a model's answers are to those of the user's own model, on texts whose right answers nobody knows.

It says nothing of accuracy: both may be wrong alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

#: The longest inputs, in tokens, of each part that is told apart.
BUCKETS = (8, 32, 128, 512)


def compare(same: np.ndarray, moved: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """`same` (n,) bool: the answer is the same; `moved` (n,): the most an output changed; `lengths` (n,).

    `agreement` is the share of equal answers and `agreement_low`, `agreement_high` its 95% interval as if the
    texts were drawn at random from those that will come (Clopper and Pearson 1934, exact: what is promised
    holds whatever the true share). `mean_distance` and `largest_distance` are over all texts. `buckets` holds
    the same by length; `furthest` is the place of the text with the largest distance.
    """
    low, high = interval(int(same.sum()), len(same))
    edges = [0, *(b for b in BUCKETS if b < lengths.max(initial=0)), int(lengths.max(initial=0))]
    parts = [(a + 1, b, (lengths > a) & (lengths <= b)) for a, b in pairwise(edges)]
    return {
        **_figures(same, moved),
        "agreement_low": low,
        "agreement_high": high,
        "furthest": int(moved.argmax()) if len(moved) else None,
        "buckets": [
            {"tokens": f"{a}–{b}", **_figures(same[part], moved[part])} for a, b, part in parts if part.any()
        ],
    }


def interval(equal: int, count: int) -> tuple[float, float]:
    """The exact 95% interval of a share of `equal` in `count` draws.

    >>> [round(x, 4) for x in interval(99, 100)]
    [0.9455, 0.9997]
    """
    from scipy.stats import binomtest

    if not count:
        return 0.0, 1.0
    interval = binomtest(equal, count).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def distances(
    before: Mapping[str, Sequence[np.ndarray]], after: Mapping[str, Sequence[np.ndarray]]
) -> np.ndarray:
    """The largest absolute change of an output value per example; infinite where the shapes differ.

    Whole numbers are not the model's (offsets, places of words) and are left out.
    """
    count = len(next(iter(before.values()), []))
    moved = np.zeros(count)
    for name, rows in before.items():
        for i, (x, y) in enumerate(zip(rows, after[name], strict=True)):
            if np.issubdtype(x.dtype, np.floating) and x.size:
                far = np.abs(x.astype(np.float64) - y).max() if x.shape == y.shape else np.inf
                moved[i] = np.maximum(moved[i], far)
    return moved


def _figures(same: np.ndarray, moved: np.ndarray) -> dict[str, Any]:
    return {
        "texts": len(same),
        "equal": int(same.sum()),
        "agreement": float(same.mean()) if len(same) else float("nan"),
        "mean_distance": float(moved.mean()) if len(moved) else float("nan"),
        "largest_distance": float(moved.max(initial=0.0)),
    }
