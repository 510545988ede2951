"""Queries with candidates, each more or less relevant: shapes of data sets, and what an order is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from optkit.errors import DataError
from optkit.tasks.label_mapping import number
from optkit.tasks.labelled import Columns

if TYPE_CHECKING:
    import datasets

    from optkit.tasks.base import Task


#: Columns of texts that are relevant, and of texts that are not, one or a list of them in each row.
POSITIVE = ("positive", "positives")
NEGATIVE = ("negative", "negatives")
#: Columns that tell queries apart where each row holds one candidate.
IDS = ("query_id", "qid")
#: Keys of MS MARCO's passages.
TEXTS, SELECTED = "passage_text", "is_selected"


@dataclass
class RankedList:
    """A query, its candidates, and a number of at least 0 for each; above 0 it is relevant."""

    query: str
    candidates: list[str] = field(default_factory=list)
    relevances: list[float] = field(default_factory=list)


def queries_of(rows: datasets.Dataset, text: str, pair: str) -> list[object] | None:
    """Of rows with one candidate each: what those of the same query share. None for rows with lists."""
    if not len(rows) or not isinstance(rows[0][pair], str) or pair in POSITIVE:
        return None
    ids = next((name for name in IDS if name in rows.column_names), None)
    return list(zip(rows[ids], rows[text])) if ids else list(rows[text])


def ranked_lists(
    task: type[Task], rows: datasets.Dataset, text: str, pair: str, columns: Columns
) -> tuple[str | None, list[RankedList]]:
    """The column of labels, and one list per query, of any of these shapes. Raises DataError with the row.

    A list of candidates with a list of relevances; one or several positives with negatives; MS MARCO's
    passages; or a candidate in each row, those of one query (and `IDS`, where there are any) together.
    """
    first = rows[0][pair]
    if isinstance(first, Mapping) and {TEXTS, SELECTED} <= set(first):
        return None, [
            _checked(query, list(value[TEXTS]), list(value[SELECTED]), row)
            for row, (query, value) in enumerate(zip(rows[text], rows[pair]))
        ]
    others = [name for name in rows.column_names if name not in (text, pair)]
    if pair in POSITIVE and columns.label is None:
        label = next((name for name in NEGATIVE if name in others), None) or task.column(others, "label")
    else:
        label = task.column(others, "label", columns)
    cells = enumerate(zip(rows[text], rows[pair], rows[label]))
    if pair in POSITIVE or label in NEGATIVE:
        lists = []
        for row, (query, given, left) in cells:
            right, wrong = _several(given, pair, row), _several(left, label, row)
            relevances = [1.0] * len(right) + [0.0] * len(wrong)
            lists.append(_checked(query, right + wrong, relevances, row))
        return label, lists
    if (keys := queries_of(rows, text, pair)) is None:
        return label, [_checked(query, given, values, row) for row, (query, given, values) in cells]
    together: dict[object, RankedList] = {}
    for key, (row, (query, given, value)) in zip(keys, cells):
        one = _checked(query, [given], [value], row)
        whole = together.setdefault(key, RankedList(one.query))
        whole.candidates += one.candidates
        whole.relevances += one.relevances
    return label, list(together.values())


def highest(lists: Sequence[RankedList]) -> float:
    """The largest relevance. Raises DataError where all are the same."""
    values = {value for one in lists for value in one.relevances}
    if len(values) < 2:
        raise DataError(
            f"Expected candidates of different relevance to learn from, received {sorted(values)} only.",
            hint="Give passages that do not answer their query too, with 0 as their label.",
        )
    return max(values)


def value_of(metric: str, scores: np.ndarray, relevances: Sequence[float]) -> float:
    """What an order by `scores` is worth, from 0 to 1; NaN where all candidates are as relevant.

    nDCG and average precision are scikit-learn's: linear gains, and equal scores as all their orders, as in
    sentence-transformers' CrossEncoderRerankingEvaluator. Else equal scores are in the worst order.

    >>> value_of("mrr@10", np.array([0.1, 0.7, 0.7]), [0, 1, 0])
    0.5
    """
    truth = np.asarray(relevances, dtype=np.float64)
    if len(set(truth.tolist())) < 2:
        return float("nan")
    name, _, most = metric.partition("@")
    if name == "ndcg":
        from sklearn.metrics import ndcg_score

        return float(ndcg_score([truth], [scores], k=int(most)))
    relevant = truth > 0
    if name == "map":
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(relevant, scores))
    order = np.lexsort((truth, -np.asarray(scores)))
    first = relevant[order[: int(most)]]
    if name == "recall":
        return float(first.sum() / relevant.sum())
    return float(1 / (1 + first.argmax())) if first.any() else 0.0


def _checked(query: object, candidates: object, relevances: object, row: int) -> RankedList:
    if not isinstance(query, str):
        raise DataError(f"Expected a text as the query of row {row}, received {type(query).__name__}.")
    if not isinstance(candidates, list) or not candidates or not isinstance(relevances, list):
        raise DataError(
            f"Expected a list of candidates and one of their relevances in row {row}, received "
            f"{str(candidates)[:60]!r} and {str(relevances)[:60]!r}.",
            hint="Leave out queries without candidates.",
        )
    if len(candidates) != len(relevances):
        raise DataError(
            f"Expected a relevance for each of {len(candidates)} candidates in row {row}, received "
            f"{len(relevances)}."
        )
    values = [number(int(x) if isinstance(x, bool) else x) for x in relevances]
    for text, value, given in zip(candidates, values, relevances):
        if not isinstance(text, str) or value is None or value < 0:
            raise DataError(
                f"Expected texts with a number of at least 0 each in row {row}, received {str(text)[:60]!r} "
                f"with {given!r}."
            )
    return RankedList(query, list(candidates), [float(v) for v in values if v is not None])


def _several(value: object, name: str, row: int) -> list[str]:
    """One text or a list of them."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise DataError(
            f"Expected a text or a list of texts in column {name!r}, row {row}, received {value!r}."
        )
    return list(value)
