"""The shapes that ranking data has, and metrics beside sentence-transformers' evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from optkit.data.dataset import drawn
from optkit.errors import DataError
from optkit.tasks.base import Columns
from optkit.tasks.ranked_lists import RankedList, ranked_lists, value_of
from optkit.tasks.rerank import Rerank

WANTED = [
    RankedList("who", ["he", "she", "it"], [1.0, 0.0, 0.0]),
    RankedList("what", ["that", "this"], [1.0, 0.0]),
]
FLAT = [(x.query, text, label) for x in WANTED for text, label in zip(x.candidates, x.relevances)]
SHAPES = {
    "lists": [{"query": x.query, "documents": x.candidates, "relevances": x.relevances} for x in WANTED],
    "flags": [
        {"query": x.query, "passages": x.candidates, "labels": [r > 0 for r in x.relevances]} for x in WANTED
    ],
    "negatives": [
        {"query": x.query, "positive": x.candidates[:1], "negative": x.candidates[1:]} for x in WANTED
    ],
    "triplets": [
        {"anchor": "who", "positive": "he", "negative": "she"},
        {"anchor": "what", "positive": "that", "negative": "this"},
    ],
    "msmarco": [
        {
            "query": x.query,
            "passages": {"is_selected": [int(r) for r in x.relevances], "passage_text": x.candidates},
        }
        for x in WANTED
    ],
    "flat": [{"query": q, "passage": t, "label": int(r)} for q, t, r in FLAT],
    "apart": [{"query": q, "text": t, "score": str(r)} for q, t, r in FLAT[::2] + FLAT[1::2]],
}


def read(rows, columns=Columns()):
    rows = Dataset.from_list(rows)
    text = Rerank.column(rows.column_names, "text", columns)
    pair = Rerank.column([n for n in rows.column_names if n != text], "pair", columns)
    return ranked_lists(Rerank, rows, text, pair, columns)


def as_sets(lists):
    return sorted((x.query, sorted(zip(x.candidates, x.relevances))) for x in lists)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_alike_and_by_the_columns_that_it_names(shape):
    label, lists = read(SHAPES[shape])
    wanted = WANTED
    if shape == "triplets":
        wanted = [RankedList("who", ["he", "she"], [1.0, 0.0]), WANTED[1]]
    assert as_sets(lists) == as_sets(wanted)
    assert read(SHAPES[shape], Columns(label=label))[1] == lists


def test_a_query_id_tells_equal_queries_apart():
    rows = [{"qid": i, "query": "who", "passage": t, "label": i} for i in (0, 1) for t in ("he", "she")]
    assert [x.relevances for x in read(rows)[1]] == [[0.0, 0.0], [1.0, 1.0]]


def test_a_limit_counts_queries_and_leaves_each_whole():
    rows = Dataset.from_list([{"query": f"q{i // 4}", "passage": str(i), "label": i % 2} for i in range(40)])
    some = drawn(rows, 3, Rerank.together(rows, Columns()))
    assert len(some) == 12
    assert len(set(some["query"])) == 3
    assert Rerank.together(Dataset.from_list(SHAPES["lists"]), Columns()) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "who", "documents": [], "labels": []}, "list of candidates .* row 0"),
        (
            {"query": "who", "documents": ["he"], "labels": [1, 0]},
            "relevance for each of 1 candidates in row 0",
        ),
        ({"query": "who", "documents": ["he"], "labels": [-1]}, "at least 0 each in row 0.*-1"),
        ({"query": "who", "documents": ["he"], "labels": ["yes"]}, "at least 0 each in row 0"),
        ({"query": None, "documents": ["he"], "labels": [1]}, "text as the query of row 0"),
        (
            {"query": "who", "positive": "he", "negative": None},
            "text or a list of texts in column 'negative'",
        ),
    ],
)
def test_a_row_that_is_none_of_them_is_named(row, message):
    with pytest.raises(DataError, match=message):
        read([row])


def test_metrics_are_those_of_sentence_transformers_where_no_scores_are_equal():
    evaluation = pytest.importorskip("sentence_transformers.cross_encoder.evaluation")
    theirs = evaluation.CrossEncoderRerankingEvaluator([], at_k=10)
    random = np.random.default_rng(0)
    for size in (2, 5, 30):
        scores = random.permutation(size).astype(float)
        truth = np.append(random.integers(0, 2, size - 2), [0, 1])
        mrr, ndcg, ap = theirs.compute_metrics(truth, scores)
        for metric, expected in (("mrr@10", mrr), ("ndcg@10", ndcg), ("map", ap)):
            assert value_of(metric, scores, truth.tolist()) == pytest.approx(float(expected))


def test_equal_scores_flatter_no_metric():
    scores, truth = np.zeros(20), [1.0] + [0.0] * 19
    assert value_of("mrr@10", scores, truth) == value_of("recall@10", scores, truth) == 0
    assert value_of("ndcg@10", scores, truth) < 0.25
    assert value_of("map", scores, truth) == pytest.approx(1 / 20)


def test_grades_count_by_their_size_and_one_kind_is_worth_nothing():
    assert value_of("ndcg@10", np.array([3.0, 2.0, 1.0]), [2, 1, 0]) == 1
    assert 0.8 < value_of("ndcg@10", np.array([2.0, 3.0, 1.0]), [2, 1, 0]) < 1
    assert value_of("recall@10", np.arange(12.0), [1.0] * 4 + [0.0] * 8) == 0.5
    assert all(np.isnan(value_of(m, np.array([1.0, 2.0]), [1, 1])) for m in Rerank.metrics)
