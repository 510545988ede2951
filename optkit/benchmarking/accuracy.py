"""Outputs of every example, and PAIRED comparison of two models on the same examples.

Two models that are right on 88% of the examples each may differ on 2% or on 20% of them; only the
examples on which they differ say anything about the drop, so it is computed from pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import DataError, PassError
from optkit.tasks.labelled import Answer

#: Per-example outputs: name → one array per example.
Outputs = dict[str, list[np.ndarray]]

RESAMPLES = 4000
#: Most numbers in memory at once while resampling.
_CHUNK = 4_000_000


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


def paired_drop(correct_a: np.ndarray, correct_b: np.ndarray) -> Paired:
    """The loss in the mean of per-example outcomes from `a` to `b`, both of shape (examples,).

    The interval is a paired bootstrap's (Efron and Tibshirani 1993). Right-or-wrong outcomes are
    drawn from the observed pairs with one more flip each way (Bonett and Price 2012): plain
    resampling of no flips at all would claim certainty from any number of examples.

    Raises DataError for no examples, or for different numbers of them.

    >>> paired_drop(np.array([True] * 4), np.array([True, True, False, True])).drop
    0.25
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    _check_pairs(len(a), len(b))
    difference = a.astype(np.float64) - b.astype(np.float64)
    n, drop, p_value = len(difference), float(difference.mean()), None
    random = np.random.default_rng(0)
    if _is_right_or_wrong(a) and _is_right_or_wrong(b):
        worse, better = int((difference > 0).sum()), int((difference < 0).sum())
        p_value = mcnemar(worse, better)
        shares = np.array([worse + 1, better + 1, n - worse - better]) / (n + 2)
        counts = random.multinomial(n + 2, shares, size=RESAMPLES)
        means = (counts[:, 0] - counts[:, 1]) / (n + 2)
    else:
        means = _resampled_means(difference, random)
    low, high = np.percentile(means, [2.5, 97.5])
    return Paired(drop, min(float(low), drop), max(float(high), drop), n, p_value)


def paired_drop_of(
    score: Callable[[Any, Any], float],
    answers_a: Sequence[Answer] | np.ndarray,
    answers_b: Sequence[Answer] | np.ndarray,
    references: Sequence[Answer] | np.ndarray,
    resamples: int = 500,
) -> Paired:
    """The same for a `score(answers, references)` that is no mean over examples (F1, a correlation).

    Resamples on which the score is undefined (NaN) are left out of the interval.

    >>> f = lambda answers, truth: float(np.corrcoef(answers, truth)[0, 1])
    >>> truth = np.arange(50.0)
    >>> paired_drop_of(f, truth, truth, truth).drop
    0.0
    """
    n = len(references)
    _check_pairs(len(answers_a), len(answers_b))
    _check_pairs(len(answers_a), n)
    a, b, truth = (_takeable(x) for x in (answers_a, answers_b, references))
    random = np.random.default_rng(0)
    drops = []
    for _ in range(resamples):
        pick = random.integers(0, n, n)
        drops.append(score(a(pick), truth(pick)) - score(b(pick), truth(pick)))
    drop = float(score(answers_a, references) - score(answers_b, references))
    defined = np.array(drops, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (-inf, inf)
    return Paired(drop, min(float(low), drop), max(float(high), drop), n, None)


def mcnemar(worse: int, better: int) -> float:
    """Exact two-sided p value: are the flips as likely one way as the other? (McNemar 1947)

    >>> mcnemar(5, 0)
    0.0625
    """
    n, term, total = worse + better, 1, 0
    for i in range(min(worse, better) + 1):
        total += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * total / 2**n)


def save_outputs(file: Path, outputs: Outputs) -> None:
    """Write per-example outputs as .npz, ragged ones too. No pickle.

    Raises PassError where a value is NaN or infinite: no metric of such outputs means anything.
    """
    stored: dict[str, np.ndarray] = {}
    for name, rows in outputs.items():
        flat = np.concatenate([row.reshape(-1) for row in rows]) if rows else np.empty(0)
        if np.issubdtype(flat.dtype, np.floating) and not np.isfinite(flat).all():
            what = "NaN" if np.isnan(flat).any() else "infinity"
            bad = next(i for i, row in enumerate(rows) if not np.isfinite(row).all())
            raise PassError(
                f"Expected finite numbers in the output {name!r}, received {what}, first in example {bad}.",
                hint="The model overflows on this example; try a wider precision or another calibration.",
            )
        stored[f"data:{name}"] = flat
        stored[f"shape:{name}"] = np.array([row.shape for row in rows], dtype=np.int64)
    np.savez(file, **stored)  # type: ignore[arg-type]


def load_outputs(file: Path) -> Outputs:
    """What `save_outputs` wrote: output name → one array per example."""
    with np.load(file, allow_pickle=False) as stored:
        outputs: Outputs = {}
        for key in (k for k in stored if k.startswith("data:")):
            shapes = stored[f"shape:{key[5:]}"]
            sizes = shapes.prod(axis=1) if len(shapes) else np.empty(0, dtype=np.int64)
            parts = np.split(stored[key], np.cumsum(sizes)[:-1])
            outputs[key[5:]] = [part.reshape(shape) for part, shape in zip(parts, shapes)]
        return outputs


def _is_right_or_wrong(outcomes: np.ndarray) -> bool:
    return outcomes.dtype == bool or bool(np.isin(outcomes, (0, 1)).all())


def _resampled_means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Means of RESAMPLES resamples, a chunk at a time."""
    n = len(values)
    size = max(1, min(RESAMPLES, _CHUNK // n))
    chunks = [values[random.integers(0, n, (size, n))].mean(axis=1) for _ in range(-(-RESAMPLES // size))]
    return np.concatenate(chunks)[:RESAMPLES]


def _takeable(values: Sequence[Answer] | np.ndarray) -> Callable[[np.ndarray], Sequence[Answer] | np.ndarray]:
    """How to take a resample of `values` in their own kind: arrays stay arrays, lists stay lists."""
    if isinstance(values, np.ndarray):
        return lambda pick: values[pick]
    return lambda pick: [values[i] for i in pick]


def _check_pairs(a: int, b: int) -> None:
    if a != b or a == 0:
        raise DataError(
            f"Expected outcomes of the same examples, at least one, received {a} and {b}.",
            hint="Evaluate both models on the same split.",
        )
