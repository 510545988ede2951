"""Queries and documents by their vectors: what sentence-transformers' InformationRetrievalEvaluator computes.

Every different second text of the data is a document, whoever asks for it; a query is a different first text
with at least one document that answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

METRICS = ("ndcg@10", "mrr@10", "recall@1", "recall@5", "recall@10")
#: A pair counts as a match from this share of the highest score in the data.
MATCH = 0.8
#: Queries that are compared with all documents at a time; similarities as near as this are equal.
_AT_ONCE, _EQUAL = 256, 1e-6


class Relevance(NamedTuple):
    """A row of the data: how well the document answers the query, and which of all they are."""

    score: float
    query: int
    document: int


def relevances(queries: Sequence[str], documents: Sequence[str], scores: Sequence[float]) -> list[Relevance]:
    """One for each row; equal texts have equal numbers."""
    numbers: list[dict[str, int]] = [{}, {}]
    return [
        Relevance(score, numbers[0].setdefault(q, len(numbers[0])), numbers[1].setdefault(d, len(numbers[1])))
        for q, d, score in zip(queries, documents, scores)
    ]


def values(
    metric: str,
    pairs: np.ndarray,
    references: Sequence[Relevance],
    similarities: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """`metric` of each query, (queries,): of `pairs` (rows, 2, width), a query and a document each.

    `similarities` compares queries with documents, (queries, documents). Documents as near as one that
    answers stand before it, so that vectors which are all the same find nothing.
    """
    name, _, most = metric.partition("@")
    best = max((one.score for one in references), default=0.0)
    right: dict[int, set[int]] = {}
    first: list[dict[int, int]] = [{}, {}]
    for row, one in enumerate(references):
        first[0].setdefault(one.query, row)
        first[1].setdefault(one.document, row)
        if one.score >= MATCH * best:
            right.setdefault(one.query, set()).add(one.document)
    documents = pairs[[first[1][i] for i in range(len(first[1]))], 1]
    queries, worth = sorted(right), []
    for start in range(0, len(queries), _AT_ONCE):
        part = queries[start : start + _AT_ONCE]
        near = similarities(pairs[[first[0][query] for query in part], 0], documents)
        worth += [_worth(name, int(most), row, sorted(right[query])) for row, query in zip(near, part)]
    return np.array(worth, dtype=np.float64)


def _worth(name: str, most: int, near: np.ndarray, right: list[int]) -> float:
    relevant = np.sort(near[right])[::-1]
    others = np.delete(near, right)
    places = np.array([i + 1 + (others >= value - _EQUAL).sum() for i, value in enumerate(relevant)])
    inside = places[places <= most]
    if name == "recall":
        return len(inside) / len(right)
    if name == "mrr":
        return 1 / float(inside.min()) if len(inside) else 0.0
    ideal = np.arange(1, min(most, len(right)) + 1)
    return float((1 / np.log2(inside + 1)).sum() / (1 / np.log2(ideal + 1)).sum())
