"""Sparse vectors as `SparseEncoder(folder).encode` gives them, and what of such folders is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import optkit
from optkit.errors import CheckpointError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder, splade

library = pytest.importorskip("sentence_transformers")
TEXTS = ["a fine film", "dull", "the plot is thin and the cast is not very good " * 4]


def dense(task, artifact):
    with open_session(artifact) as session:
        return np.stack(infer_all(session, task.encode(TEXTS), 8, 512)["sentence_embedding"])


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_weights_equal_the_librarys_in_torch_and_in_the_graph(strategy, activation, tmp_path):
    folder = splade(tmp_path / "st", activation, strategy)
    right = library.SparseEncoder(str(folder), device="cpu").encode(TEXTS).to_dense().numpy()
    source = fetch(folder)
    task = open_task(source)
    assert task.name == "sparse-embeddings"
    np.testing.assert_allclose(dense(task, source), right, atol=1e-4)
    if (strategy, activation) == ("max", "relu"):
        graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(task))
        np.testing.assert_allclose(dense(task, graph), right, atol=1e-4)
        with optkit.load(graph.path) as model:
            for row, answer in zip(right, model.predict(TEXTS)):
                np.testing.assert_array_equal(answer.indices, np.flatnonzero(row > 0))
                np.testing.assert_allclose(answer.values, row[row > 0], atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return splade(tmp_path_factory.mktemp("s") / "st")


@pytest.fixture(scope="module")
def model(folder):
    with optkit.load(folder) as model:
        yield model


def test_compressed_beside_the_librarys_own(folder, tmp_path):
    rows = [
        {"text": a["text"], "text_pair": b["text"], "label": i % 5}
        for i, (a, b) in enumerate(zip(sentences(20, seed=1), sentences(20, seed=2)))
    ]
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        data = write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows).parent
    recipe = optkit.Recipe.of(["export-onnx", "quantize-dynamic"], optkit.Gate(max_drop=None))
    quick = {"data": data, "shapes": ("1x8",), "rounds": 1, "processes": 1}
    report = optkit.compress(folder, recipe, out=tmp_path / "out", **quick)
    assert report.task == "sparse-embeddings"
    assert report.rows[0].notes["reference"]["by"] == "transformers"
    assert all(row.agreement > 0.9 for row in report.rows)


def test_answers_for_people_and_programs(model):
    one, other = model.predict(TEXTS[:2])
    described = model.task.describe(one)
    assert described["indices"] == sorted(described["indices"])
    assert min(described["values"]) > 0
    heaviest = model.task.encoder.token(int(one.indices[one.values.argmax()]))
    assert model.task.line(one).startswith(heaviest)
    assert model.task.alike(one, one) == pytest.approx(1)
    assert 0 <= model.task.alike(one, other) < 1


def test_a_prompt_is_taken_and_a_cut_is_not(model):
    [plain] = model.predict(["the plot a fine film"])
    [prompted] = model.predict(["a fine film"], prompt="the plot ")
    np.testing.assert_array_equal(plain.values, prompted.values)
    with pytest.raises(RecipeError, match="truncate_dim"):
        model.predict(TEXTS, truncate_dim=4)


REFUSED = {
    "fewer tokens": ("config_sentence_transformers.json", {"max_active_dims": 8}, "max_active_dims"),
    "another pooling": ("1_SpladePooling/config.json", {"pooling_strategy": "mean"}, "'mean'"),
    "another activation": ("1_SpladePooling/config.json", {"activation_function": "gelu"}, "'gelu'"),
    "token vectors": (
        "sentence_bert_config.json",
        {"transformer_task": "feature-extraction"},
        "transformer_task",
    ),
    "a dense model": (
        "config_sentence_transformers.json",
        {"model_type": "SentenceTransformer"},
        "SparseEncoder",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_is_refused_by_its_name(name, folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "st")
    file, values, message = REFUSED[name]
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | values))
    with pytest.raises(CheckpointError, match=message):
        open_task(fetch(copy))


@pytest.mark.parametrize("name", ["embeddings", "sparse-embeddings"])
def test_the_other_kind_of_vectors_is_another_task(name, folder, tmp_path):
    source = folder if name == "embeddings" else embedder(tmp_path / "dense")
    with pytest.raises(CheckpointError, match="sparse"):
        open_task(fetch(source), name)


@pytest.mark.parametrize("kind", ["SparseAutoEncoder", "Router"])
def test_other_sparse_modules_are_refused_by_their_name(kind, folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "st")
    listed = json.loads((copy / "modules.json").read_text())
    listed[1]["type"] = f"sentence_transformers.sparse_encoder.models.{kind}"
    (copy / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=kind):
        open_task(fetch(copy))
