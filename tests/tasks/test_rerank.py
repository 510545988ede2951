"""Rerankers: every score as sentence-transformers' `CrossEncoder(folder).predict` gives it, or refused."""

from __future__ import annotations

import ast
import json

import numpy as np
import pytest

from optkit import load, predict
from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from optkit.tasks.rerank import MOST
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import write_jsonl
from tests.serving.artifacts import artifact
from tests.tasks.test_cross_encoder import activation, change, classifier, saved

library = pytest.importorskip("sentence_transformers")

QUERY, CANDIDATES = "a fine film", ["the plot", "a fine film with a plot " * 9, "", "Film"]


#: What a tiny model of a kind needs beside the usual.
SETTINGS = {
    "modernbert": {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    "qwen3": {"head_dim": 16, "num_key_value_heads": 1, "pad_token_id": 0},
}


def predicted(folder, **settings):
    model = library.CrossEncoder(str(folder), device="cpu")
    return model.predict([(QUERY, text) for text in CANDIDATES], **settings)


def scores(artifact, task=None):
    opened = open_task(artifact, task)
    with open_session(artifact, task=task) as session:
        return opened.answers(infer_all(session, opened.encode([(QUERY, CANDIDATES)]), 2, 512))[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bert", None),
        ("xlm-roberta", "Sigmoid"),
        ("modernbert", "Identity"),
        ("deberta-v2", "Tanh"),
        ("qwen3", None),
    ],
)
def test_every_score_is_the_librarys(kind, name, tmp_path):
    folder = saved(tmp_path, kind, activation=activation(name) if name else None, **SETTINGS.get(kind, {}))
    source = fetch(folder)
    assert infer_task(source) == "rerank"
    graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source)))
    for one in (source, graph):
        np.testing.assert_allclose(scores(one), predicted(folder), atol=1e-5)
    reference = REFERENCES["rerank"](folder)
    given = [(QUERY, CANDIDATES), ("film", ["a"])]
    answered = reference.answers(reference.outputs(reference.rows(given), given), given)
    np.testing.assert_allclose(answered[0], predicted(folder), atol=1e-5)
    assert len(answered[1]) == 1
    with load(graph.path) as model:
        ranking = model.predict_one({"query": QUERY, "documents": CANDIDATES})
    expected = predicted(folder)
    assert [x.index for x in ranking.results] == np.argsort(-expected, kind="stable").tolist()


def test_a_plain_classifier_of_one_label_is_one_where_the_user_says_so(tmp_path):
    folder = classifier(tmp_path / "plain")
    assert infer_task(fetch(folder)) == "text-classification"
    np.testing.assert_allclose(scores(fetch(folder), "rerank"), predicted(folder), atol=1e-5)
    with pytest.raises(CheckpointError, match="one logit, received BertForSequenceClassification with 3"):
        open_task(fetch(classifier(tmp_path / "three", labels=3)), "rerank")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return open_task(fetch(saved(tmp_path_factory.mktemp("ce"))))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a fine film", "query with its candidates at position 1, received str"),
        (("film", []), "1 to 1,000 candidates at position 1, received 0"),
        (("film", ["a"] * 10_000), "1 to 1,000 candidates at position 1, received 10,000"),
        (("film", [1]), "list of texts"),
        ({"query": "film"}, "list of texts"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_the_next_step(task, item, message):
    with pytest.raises(DataError, match=message) as refused:
        task.encode([("film", ["a"]), item])
    assert refused.value.hint


def test_long_candidates_are_cut_and_counted(task):
    encoded = task.encode([("film", ["plot " * 200, "a", "plot " * 300])])
    assert (encoded.truncated, max(encoded.lengths)) == (2, task.encoder.max_length)
    assert len(task.encode([("film", ["a"] * MOST)])) == MOST


def test_a_query_that_fills_the_model_is_cut_as_transformers_cuts_it(task):
    encoded = task.encode([("film " * 200, ["plot " * 200, "a"])])
    assert (encoded.truncated, min(encoded.lengths)) == (2, task.encoder.max_length)


def test_queries_of_one_kind_are_left_out_and_counted(task):
    from datasets import Dataset

    rows = [
        {"query": "film", "documents": ["a", "b"], "labels": labels} for labels in ([1, 0], [0, 0], [1, 1])
    ]
    read = task.read(Dataset.from_list(rows), Columns())
    assert (len(read.references), read.skipped, read.sources) == (1, 2, ["film"])
    with pytest.raises(DataError, match="one kind only"):
        task.read(Dataset.from_list(rows[1:]), Columns())
    with pytest.raises(DataError, match="query") as refused:
        task.read(Dataset.from_list([{"sentence1": "a", "sentence2": "b", "score": 1.0}]), Columns())
    assert "text-classification" in refused.value.hint


def test_answers_are_scored_by_query(task):
    logits = {"logits": [np.array([0.1, 2.0], np.float32), np.array([3.0, 1.0, 0.0], np.float32)]}
    answers = task.answers(logits)
    assert task.outcomes(answers, [[1, 0], [1, 0, 0]]) == pytest.approx([0.6309, 1], abs=1e-4)
    assert task.score(answers, [[1, 0], [1, 0, 0]]) == pytest.approx(0.8155, abs=1e-4)
    first = task.decode(logits)[0]
    assert [(x.index, x.logit) for x in first.results] == [(1, 2.0), (0, pytest.approx(0.1))]
    assert task.line(first) == "1:0.8808\t0:0.5250"
    assert task.same(logits, {"logits": [-x for x in logits["logits"]]}).tolist() == [False, False]
    with pytest.raises(RecipeError, match="ndgc"):
        type(task).checked_metric("ndgc@10")


def test_a_whole_input_is_answered_as_its_pieces(task):
    item = (QUERY, CANDIDATES)
    logits = [np.array([x], np.float32) for x in (0.2, 0.9, 0.9, -1.0)]
    pieces = task.decode({"logits": logits})
    assert len(task.pieces(item)) == len(pieces)
    assert task.joined(pieces) == task.decode({"logits": [np.concatenate(logits)]})[0]
    assert task.from_json(task.to_json(item)) == {"query": QUERY, "documents": CANDIDATES}
    assert task.from_fields(["a", '["b"]']) == ("a", ["b"])
    assert task.from_line("a\tb\tc") == ("a", ["b", "c"])
    for call in (lambda: task.from_fields(["a", "b"]), lambda: task.from_line("a")):
        with pytest.raises(DataError):
            call()


def test_what_is_learned_is_the_librarys_loss_and_opens_there_with_the_same_scores(checkpoint, tmp_path):
    import torch

    flat = [
        {"query": q, "passage": p, "label": int(q in p.split())}
        for q in ("film", "plot", "cast", "work")
        for p in ("a fine film", "the plot is thin", "the cast", "a work")
    ]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", flat)
    settings = FinetuneSettings(epochs=1, batch=8, max_length=None)
    tuned = finetune(checkpoint, tmp_path, tmp_path / "tuned", settings)
    assert (tuned.task, infer_task(Artifact.open(tuned.path))) == ("rerank", "rerank")
    config = json.loads((tuned.path / "config.json").read_text())
    assert len(config["id2label"]) == 1
    np.testing.assert_allclose(scores(tuned), predicted(tuned.path), atol=1e-5)

    model = library.CrossEncoder(str(tuned.path), device="cpu")
    task = type(open_task(tuned)).for_training(tuned, {"scale": 2.0}, None)
    labels = task.targets(type("Read", (), {"references": [[2.0, 0.0], [1.0]]}))["labels"]
    pairs = [("film", "a fine film"), ("film", "the cast"), ("plot", "plot")]
    loss = library.cross_encoder.losses.BinaryCrossEntropyLoss(model)
    expected = loss([[a for a, _ in pairs], [b for _, b in pairs]], torch.tensor([1.0, 0.0, 0.5]))
    feeds = model.tokenizer(*zip(*pairs), padding=True, return_tensors="pt")
    ours = model.model(**feeds, labels=torch.from_numpy(np.stack(labels))).loss
    assert ours.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_csv_file_is_ranked_once_it_went_the_way_of_the_hint(tmp_path):
    pandas = pytest.importorskip("pandas")
    model, file, answers = artifact(tmp_path / "model", "rerank"), tmp_path / "in.csv", tmp_path / "out.jsonl"
    frame = pandas.DataFrame([{"query": QUERY, "documents": CANDIDATES}] * 2)
    frame.to_csv(file, index=False)
    with pytest.raises(DataError) as refused:
        predict(model, input=file, output=answers)
    assert "converters={'documents': ast.literal_eval}" in refused.value.hint
    lines = {"orient": "records", "lines": True}
    pandas.read_csv(file).to_json(tmp_path / "text.jsonl", **lines)
    with pytest.raises(DataError, match="a list that is written as one") as refused:
        predict(model, input=tmp_path / "text.jsonl", output=answers)
    assert "ast.literal_eval" in refused.value.hint
    pandas.read_csv(file, converters={"documents": ast.literal_eval}).to_json(tmp_path / "in.jsonl", **lines)
    predict(model, input=tmp_path / "in.jsonl", output=answers)
    [first, _] = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(first["results"]) == len(CANDIDATES)


def test_a_file_of_queries_is_ranked_and_so_are_single_candidates(tmp_path):
    model, answers = artifact(tmp_path / "model", "rerank"), tmp_path / "out.jsonl"
    for row in (
        {"query": QUERY, "documents": CANDIDATES},
        {"query": QUERY, "passage": CANDIDATES[0], "id": 7},
    ):
        write_jsonl(tmp_path / "in.jsonl", [row] * 2)
        predict(model, input=tmp_path / "in.jsonl", output=answers, force=True)
        found = [json.loads(line) for line in answers.read_text().splitlines()]
        with load(model) as predictor:
            expected = predictor.predict_one((QUERY, row.get("documents", row.get("passage"))))
        for one in found:
            assert one["query"] == QUERY
            assert [x["index"] for x in one["results"]] == [x.index for x in expected.results]
    with pytest.raises(DataError, match="candidates"):
        write_jsonl(tmp_path / "in.jsonl", [{"query": QUERY}])
        predict(model, input=tmp_path / "in.jsonl", output=answers, force=True)


def test_a_prompt_in_the_folder_is_refused(tmp_path):
    folder = saved(tmp_path)
    change(folder, "config_sentence_transformers.json", prompts={"a": "the plot "}, default_prompt_name="a")
    with pytest.raises(CheckpointError, match="puts a prompt before texts"):
        open_task(fetch(folder))
