"""Token vectors as `MultiVectorEncoder` gives them, MaxSim as it has it, what of such folders is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from starlette.testclient import TestClient

import optkit
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.runtimes.base import infer_all, open_session
from optkit.serving.http.app import make_app
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.base import Columns, open_task
from optkit.tasks.multi_vector_embeddings import maxsim
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder, multi_vector

library = pytest.importorskip("sentence_transformers")
TEXTS = ["a fine film", "dull", "", "the plot is thin and the cast is not very good " * 4]
CLASSIC = {"query_expansion": {"strategy": "fixed", "length": 8}, "document_length": 12}
#: Kind, settings of the Transformer and of the mask; the words skipped are in the tests' vocabulary or not.
FOLDERS = {
    "fixed, not seen": ("bert", CLASSIC, {"skiplist_words": ["the", "and", "?"]}),
    "at least, seen": (
        "bert",
        {"query_expansion": {"strategy": "min", "length": 8, "attend": True, "token": "[PAD]"}},
        {"skiplist_words": ["the"], "skiplist_tasks": ["query", "document"]},
    ),
    "at least, not seen": ("bert", {"query_expansion": {"strategy": "min", "length": 8}}, {}),
    "not filled": ("modernbert", {"query_length": 5}, {"keep_only_token_ids": [2, 7, 9]}),
    "filled": ("modernbert", CLASSIC, {}),
}


def by_the_library(folder):
    """Side → the vectors of TEXTS."""
    model = library.MultiVectorEncoder(str(folder), device="cpu")
    ways = {"query": model.encode_query, "document": model.encode_document, None: model.encode}
    return {side: encode(TEXTS, convert_to_numpy=True) for side, encode in ways.items()}


def same(received, right):
    assert [x.shape for x in received] == [x.shape for x in right]
    for a, b in zip(received, right):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", FOLDERS)
def test_vectors_equal_the_librarys(name, tmp_path):
    kind, settings, mask = FOLDERS[name]
    folder = multi_vector(tmp_path / "st", kind, mask, **settings)
    right = by_the_library(folder)
    with optkit.load(folder) as model:
        assert model.task.name == "multi-vector-embeddings"
        for side, vectors in right.items():
            same(model.predict(TEXTS, **({"prompt_name": side} if side else {})), vectors)
        mixed = model.predict([{"query": TEXTS[0]}, TEXTS[0], {"document": TEXTS[0]}])
        same(mixed, [right[side][0] for side in ("query", None, "document")])


def test_a_side_without_a_prompt_has_none_whatever_the_default(tmp_path):
    folder = multi_vector(tmp_path / "st")
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    settings |= {"prompts": {"own": "the plot ", "query": None, "document": ""}, "default_prompt_name": "own"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    right = by_the_library(folder)
    with optkit.load(folder) as model:
        for side, vectors in right.items():
            same(model.predict(TEXTS, **({"prompt_name": side} if side else {})), vectors)


@pytest.mark.parametrize("mean", [False, True])
def test_maxsim_equals_the_librarys_also_of_no_vector(mean, monkeypatch):
    from sentence_transformers.util import similarity

    monkeypatch.setattr("optkit.tasks.multi_vector_embeddings._AT_ONCE", 9)
    random = np.random.default_rng(0)
    queries, documents = (
        [random.normal(size=(n, 4)).astype(np.float32) for n in sizes]
        for sizes in ((3, 1, 5), (7, 0, 2, 6, 1))
    )
    right = (similarity.mean_maxsim if mean else similarity.maxsim)(queries, documents).numpy()
    np.testing.assert_allclose(maxsim(queries, documents, mean), right, rtol=1e-5)
    assert maxsim([], documents).shape == (0, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    kind, settings, mask = FOLDERS["fixed, not seen"]
    return multi_vector(tmp_path_factory.mktemp("m") / "st", kind, mask, **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rows = [
        {"query": a["text"], "document": b["text"], "score": i % 5}
        for i, (a, b) in enumerate(zip(sentences(20, seed=1), sentences(20, seed=2)))
    ]
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "validation"):
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def small(folder, data, tmp_path_factory):
    """Compressed to INT8, and the report."""
    out = tmp_path_factory.mktemp("small") / "out"
    recipe = optkit.Recipe.of(["export-onnx", "quantize-dynamic"], optkit.Gate(max_drop=None))
    with pytest.MonkeyPatch.context() as patch:  # all answers count as changed
        patch.setattr("optkit.tasks.multi_vector_embeddings.NEAR", 2)
        return out, optkit.compress(
            folder, recipe, data=data, out=out, shapes=("1x8",), rounds=1, processes=1, metric="spearman"
        )


def test_what_says_its_side_may_have_a_prompt_of_its_own(folder):
    model = library.MultiVectorEncoder(str(folder), device="cpu")
    right = model.encode_query(TEXTS[:1], prompt="the cast ", convert_to_numpy=True)
    with optkit.load(folder) as own:
        given = [{"query": TEXTS[0]}]
        same(own.predict(given, prompt="the cast "), right)
        same(own.predict(given, prompt_name="query"), own.predict(TEXTS[:1], prompt_name="query"))
        with pytest.raises(DataError, match="read as document, received one that is a query"):
            own.predict(given, prompt_name="document")


def test_compressed_beside_the_librarys_own(small, folder):
    out, report = small
    assert (report.task, report.metric) == ("multi-vector-embeddings", "spearman")
    assert report.rows[0].notes["reference"]["by"] == "transformers"
    doubts = report.rows[0].notes["reference"]["doubts"]
    assert all("tokenizer" in doubt for doubt in doubts), doubts
    assert all(row.agreement > 0.95 and row.flips == [] for row in report.rows)
    with optkit.load(out) as model:
        received = model.predict(TEXTS, prompt_name="query")
        assert [x.shape for x in received] == [x.shape for x in by_the_library(folder)["query"]]
        assert model.task.alike(received[0], received[0]) == pytest.approx(1)
        assert model.task.alike(received[0], received[3]) < 1
        assert json.loads(model.task.line(received[0]))[0] == pytest.approx(received[0][0].tolist(), rel=1e-4)
        assert len(model.task.samples()) >= 3


def test_scores_equal_those_of_the_librarys_evaluator(folder, data):
    from sentence_transformers.multi_vector_encoder.evaluation import (
        MultiVectorInformationRetrievalEvaluator as Evaluator,
    )

    rows = Data(str(data)).split("validation")
    texts = {name: list(dict.fromkeys(rows[name])) for name in ("query", "document")}
    best = [row for row in rows if row["score"] >= 4 * 0.8]
    relevant = {
        str(i): {str(texts["document"].index(row["document"])) for row in best if row["query"] == query}
        for i, query in enumerate(texts["query"])
    }
    given = {str(i): x for i, x in enumerate(texts["query"]) if relevant[str(i)]}
    theirs = Evaluator(given, {str(i): x for i, x in enumerate(texts["document"])}, relevant)(
        library.MultiVectorEncoder(str(folder), device="cpu")
    )
    source = fetch(folder)
    for metric in ("ndcg@10", "mrr@10", "recall@5"):
        task = open_task(source, metric=metric)
        labelled = task.read(rows, Columns())
        with open_session(source) as session:
            answers = task.answers(infer_all(session, labelled.encoded, 8, 512))
        [right] = [value for name, value in theirs.items() if name.endswith(metric)]
        assert task.score(answers, labelled.references) == pytest.approx(right, abs=1e-9)


def test_the_package_gives_through_the_librarys_modules_the_same(small, folder, tmp_path):
    import onnxruntime
    import torch
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    out, _ = small
    optkit.package(out, "sentence-transformers", tmp_path / "packed")
    optkit.package(out, "sentence-transformers", tmp_path / "packed", force=True)
    listed = json.loads((tmp_path / "packed" / "modules.json").read_text())
    assert [one["type"].rpartition(".")[2] for one in listed] == ["Transformer", "MultiVectorMask"]
    graph = onnxruntime.InferenceSession(str(tmp_path / "packed" / "onnx" / "model.onnx"))
    model = library.MultiVectorEncoder(str(folder), device="cpu")
    mask = MultiVectorMask.load(str(tmp_path / "packed" / listed[1]["path"]))
    mask.resolve_with_tokenizer(model.tokenizer)
    with optkit.load(out) as predictor:
        for side in ("query", "document"):
            features = model.preprocess(TEXTS[:1], prompt=model.prompts[side], task=side)
            zeros = torch.zeros_like(features["input_ids"])  # as optimum fills what a tokenizer does not give
            feeds = {one.name: features.get(one.name, zeros).numpy() for one in graph.get_inputs()}
            vectors = torch.from_numpy(graph.run(["last_hidden_state"], feeds)[0])
            counted = mask(dict(features), task=side)["attention_mask"].bool()
            same([vectors[counted].numpy()], predictor.predict(TEXTS[:1], prompt_name=side))


def test_a_server_takes_queries_and_documents(small):
    with optkit.load(small[0]) as model:
        expected = model.predict([{"query": "a fine film"}, "dull"])
    with TestClient(make_app(ServeSettings({"m": str(small[0])}, watch_s=0, drain_s=0))) as client:
        body = {"instances": [{"query": "a fine film"}, "dull"]}
        answer = client.post("/v1/models/m:predict", json=body)
        assert answer.status_code == 200, answer.text
        same([np.array(x["vectors"]) for x in answer.json()["predictions"]], expected)
        for wrong in ({"question": "a"}, {}, {"query": 1}, {"query": "a", "document": "b"}):
            assert client.post("/v1/models/m:predict", json={"instances": [wrong]}).status_code == 422


def test_other_inputs_and_options_are_refused(folder):
    with optkit.load(folder) as model:
        with pytest.raises(DataError, match="at position 1"):
            model.predict(["a", {"image": "b"}])
        with pytest.raises(RecipeError, match="truncate_dim"):
            model.predict(TEXTS, truncate_dim=4)
        with pytest.raises(RecipeError, match="'queries'"):
            model.predict(TEXTS, prompt_name="queries")


_TRANSFORMER, _LIBRARY = "sentence_bert_config.json", "config_sentence_transformers.json"
REFUSED = {
    "PyLate": (_LIBRARY, {"model_type": "ColBERT"}, "PyLate"),
    "PyLate's settings": (_LIBRARY, {"query_prefix": "[Q] "}, "PyLate"),
    "a dense model": (_LIBRARY, {"model_type": "SentenceTransformer"}, "Expected Pooling"),
    "no length": (_TRANSFORMER, {"query_expansion": {"strategy": "fixed"}}, "query_expansion"),
    "a strategy": (_TRANSFORMER, {"query_expansion": {"strategy": "max", "length": 8}}, "query_expansion"),
    "a key": (_TRANSFORMER, {"query_expansion": {"strategy": "min", "length": 8, "by": 2}}, "'by'"),
    "a token": (_TRANSFORMER, {"query_expansion": {"strategy": "min", "length": 8, "token": "x"}}, "fills"),
    "too long": (_TRANSFORMER, {"query_expansion": {"strategy": "min", "length": 800}}, "at most 64"),
    "less than that": (_TRANSFORMER, {"query_length": 4}, "query_length"),
    "no number": (_TRANSFORMER, {"document_length": "12"}, "document_length"),
    "words": ("2_MultiVectorMask/config.json", {"skiplist_words": "the"}, "skiplist_words"),
    "a sentence's Dense": ("1_Dense/config.json", {"module_input_name": "sentence_embedding"}, "token_emb"),
    "a sentence's Normalize": ("3_Normalize/config.json", {"module_input_name": None}, "token_emb"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_is_refused_by_its_name(name, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "st")
    file, values, message = REFUSED[name]
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | values))
    with pytest.raises(CheckpointError, match=message):
        open_task(fetch(copy))


@pytest.mark.parametrize("kind", ["HierarchicalTokenPooling", "Router"])
def test_other_modules_are_refused_by_their_name(kind, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "st")
    listed = json.loads((copy / "modules.json").read_text())
    listed[2]["type"] = f"sentence_transformers.multi_vector_encoder.modules.{kind}"
    (copy / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=kind):
        fetch(copy)


def test_stanfords_colbert_is_refused_with_how_to_convert_it(tmp_path):
    folder = embedder(tmp_path / "c")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    with pytest.raises(CheckpointError, match="Stanford") as refused:
        fetch(folder)
    assert "save_pretrained" in refused.value.hint


def test_a_dense_model_with_lengths_by_side_is_refused(tmp_path):
    folder = embedder(tmp_path / "d", pooling={"pooling_mode": "mean"})
    (folder / _TRANSFORMER).write_text(json.dumps({"query_length": 4}))
    with pytest.raises(CheckpointError, match="query_length"):
        open_task(fetch(folder))
