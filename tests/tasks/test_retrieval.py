"""Every figure as sentence-transformers' InformationRetrievalEvaluator gives it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.data.dataset import Data
from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks import retrieval
from optkit.tasks.base import Columns, open_task
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder

PROMPTS = {"query": "the plot ", "document": "film "}


@pytest.fixture(scope="module")
def rows():
    """Some queries have several documents, some documents several queries, some rows are no match."""
    random = np.random.default_rng(3)
    queries = sorted({row["text"] for row in sentences(24, seed=1)})
    documents = sorted({row["text"] for row in sentences(60, seed=2)})[:30]
    pairs = {(queries[random.integers(len(queries))], d) for d in documents}
    pairs |= {(queries[random.integers(12)], documents[random.integers(9)]) for _ in range(14)}
    return [{"query": q, "document": d, "score": float(random.choice([0, 1, 1]))} for q, d in sorted(pairs)]


@pytest.fixture(scope="module", params=["cosine", "dot", "euclidean"])
def folder(request, tmp_path_factory):
    folder = embedder(tmp_path_factory.mktemp("r") / "st", pooling={"pooling_mode": "mean"}, normalize=False)
    settings = {"prompts": PROMPTS, "similarity_fn_name": request.param}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def test_every_metric_equals_the_librarys(folder, rows, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    queries, documents = (sorted({row[name] for row in rows}) for name in ("query", "document"))
    right = {q: {r["document"] for r in rows if r["query"] == q and r["score"]} for q in queries}
    evaluator = evaluation.InformationRetrievalEvaluator(
        {q: q for q in queries if right[q]},
        {d: d for d in documents},
        {q: found for q, found in right.items() if found},
        precision_recall_at_k=[1, 5, 10],
        write_csv=False,
    )
    expected = evaluator(library.SentenceTransformer(str(folder), device="cpu"))
    data = Data(str(write_jsonl(tmp_path / "validation.jsonl", rows).parent))
    for metric in retrieval.METRICS:
        task = open_task(fetch(folder), metric=metric)
        labelled = task.read(data.split("validation"), Columns())
        with open_session(fetch(folder)) as session:
            answers = task.answers(infer_all(session, labelled.encoded, 8, 512))
        [theirs] = [value for name, value in expected.items() if name.endswith(f"_{metric}")]
        assert task.score(answers, labelled.references) == pytest.approx(theirs, abs=1e-6), metric
        assert len(task.outcomes(answers, labelled.references)) == sum(map(bool, right.values()))


def test_vectors_that_are_all_the_same_find_nothing():
    pairs = np.ones((30, 2, 4), dtype=np.float32)
    references = retrieval.relevances([f"q{i}" for i in range(30)], [f"d{i}" for i in range(30)], [1.0] * 30)
    for metric in retrieval.METRICS:
        assert not retrieval.values(metric, pairs, references, lambda a, b: a @ b.T).any()


def test_a_default_prompt_would_stand_before_both(folder, rows, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "st")
    settings = {"prompts": PROMPTS, "default_prompt_name": "query"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(settings))
    data = Data(str(write_jsonl(tmp_path / "validation.jsonl", rows).parent))
    with pytest.raises(RecipeError, match="default prompt"):
        open_task(fetch(copy), metric="ndcg@10").read(data.split("validation"), Columns())
