"""Embedders learn from pairs what the losses of sentence-transformers teach, and open there."""

from __future__ import annotations

import json

import numpy as np
import pytest

import optkit
from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, task_type
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder, multi_vector, splade

library = pytest.importorskip("sentence_transformers")
MEAN = {"pooling_mode_mean_tokens": True}
SIDES = {"query_expansion": {"strategy": "fixed", "length": 8}, "document_length": 12}
#: Task → what writes a folder, and the library's class.
KINDS = {
    "embeddings": (lambda folder: embedder(folder, pooling=MEAN), "SentenceTransformer"),
    "sparse-embeddings": (splade, "SparseEncoder"),
    "multi-vector-embeddings": (
        lambda folder: multi_vector(folder, "bert", {"skiplist_words": ["the"]}, **SIDES),
        "MultiVectorEncoder",
    ),
}


def rows_of(count, seed=0):
    """A document of several words, and for a query some of them."""
    texts = list(dict.fromkeys(row["text"] for row in sentences(8 * count, seed=seed)))[:count]
    return [{"query": " ".join(text.split()[-3:]), "document": text} for text in texts]


def theirs(model, texts):
    """The library's loss for these pairs, each side with the prompt of the folder."""
    from sentence_transformers import sparse_encoder
    from sentence_transformers.multi_vector_encoder import losses
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    kind = type(model).__name__
    if kind == "SentenceTransformer":
        loss = MultipleNegativesRankingLoss(model)
    elif kind == "SparseEncoder":
        inner = sparse_encoder.losses.SparseMultipleNegativesRankingLoss(model)
        weights = {"document_regularizer_weight": 3e-5, "query_regularizer_weight": 5e-5}
        loss = sparse_encoder.losses.SpladeLoss(model, inner, **weights)
    else:
        loss = losses.MultiVectorMultipleNegativesRankingLoss(model)
    prompts = model.prompts or {}
    features = [
        {**model.preprocess([(prompts.get(side) or "") + x for x in texts[side]], task=side), "task": side}
        for side in ("query", "document")
    ]
    for one in features if kind != "MultiVectorEncoder" else ():
        one.pop("task")
    value = loss.eval()(features, None)
    return float(sum(value.values()) if isinstance(value, dict) else value)


def ours(name, folder, rows):
    """The loss of all `rows` as one batch."""
    import datasets
    import torch
    import transformers

    rows, artifact = datasets.Dataset.from_list(rows), fetch(folder)
    config = task_type(name).training_config(rows, Columns())
    task = task_type(name).for_training(artifact, config, None)
    learned = task.to_learn(task.read(rows, Columns()), 0)
    network = task.network(
        artifact, config, lambda auto: getattr(transformers, auto).from_pretrained(str(folder))
    )
    targets = task.targets(learned)
    batch = task.collate(learned.encoded, targets, range(len(learned.references)))
    feeds = {x: torch.from_numpy(batch[x]) for x in (*network.inputs, "labels") if x in batch}
    with torch.no_grad():
        return float(network.eval()(**feeds)["loss"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("pairs")
    return {name: make(home / name) for name, (make, _) in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_is_the_librarys(name, folders):
    rows = rows_of(6)
    model = getattr(library, KINDS[name][1])(str(folders[name]), device="cpu")
    right = theirs(model, {side: [row[side] for row in rows] for side in ("query", "document")})
    assert ours(name, folders[name], rows) == pytest.approx(right, rel=1e-5)
    if name != "sparse-embeddings":  # the same document is no wrong answer
        assert ours(name, folders[name], [rows[0]] * 2) == pytest.approx(0, abs=1e-6)
    scored = [{**row, "score": 1.0} for row in rows] + [{**rows_of(2, seed=5)[0], "score": 0.1}]
    if name != "embeddings":  # where there are scores, it learns them
        assert ours(name, folders[name], scored) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_learned_and_the_folder_opens_in_the_library(name, folders, tmp_path):
    (tmp_path / "data").mkdir()
    for split, seed in (("train", 1), ("validation", 2)):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows_of(24, seed))
    settings = FinetuneSettings(epochs=2, batch=8, learning_rate=2e-3, max_length=None)
    tuned = finetune(folders[name], tmp_path / "data", tmp_path / "tuned", settings, task=name)
    notes = tuned.lineage[-1]["notes"]
    assert (tuned.task, notes["metric"]) == (name, "ndcg@10")
    assert notes["score"] == max(one["score"] for one in notes["history"])
    losses = [one["loss"] for one in notes["losses"]]
    assert losses[-1] < losses[0]
    model, texts = getattr(library, KINDS[name][1])(str(tuned.path), device="cpu"), ["a fine film", "dull"]
    right = model.encode(texts)
    with optkit.load(tuned.path) as predictor:
        answers = predictor.predict(texts)
    if name == "sparse-embeddings":
        for row, answer in zip(right.to_dense().numpy(), answers):
            np.testing.assert_array_equal(answer.indices, np.flatnonzero(row > 0))
            np.testing.assert_allclose(answer.values, row[row > 0], atol=1e-4)
    else:
        for row, answer in zip(right, answers):
            np.testing.assert_allclose(answer, np.asarray(row), atol=1e-4)
    before = json.loads((folders[name] / "modules.json").read_text())
    assert json.loads((tuned.path / "modules.json").read_text()) == before


def test_a_batch_that_is_computed_in_parts_is_refused(folders, tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows_of(4))
    with pytest.raises(RecipeError, match="cannot be computed in parts"):
        finetune(
            *(folders["embeddings"], tmp_path / "data", tmp_path / "out"),
            FinetuneSettings(batch=4, accumulate=2),
            task="embeddings",
        )
