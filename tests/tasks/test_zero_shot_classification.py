"""Zero-shot classification: every score as transformers' pipeline gives it, or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from optkit import Gate, Recipe, bench, compress, load, predict
from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task, task_to_train
from optkit.tasks.hypotheses import MOST
from tests.conftest import write_jsonl
from tests.serving.artifacts import artifact

NAME = "zero-shot-classification"
ORDERS = {
    "mnli": ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
    "first": ("entailment", "neutral", "contradiction"),
    "middle": ("contradiction", "entailment", "neutral"),
    "two": ("entailment", "not_entailment"),
}
#: What a tiny model of a kind needs beside the usual.
SETTINGS = {
    "bart": {
        **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads"), 2),
        **{"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_model": 32},
        **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3},
    },
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    "xlm-roberta": {"max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 0},
}
LABELS = ["film", "plot", "a bad cast", "good and bright"]
#: Long texts are cut, hypotheses never.
ASKED = [
    ("a fine film", LABELS),
    ("the plot is thin " * 30, LABELS[:2], "the {} is good"),
    ("dull", LABELS, "{0} or not {0}", True),
    ("", ["cast"], "a {}", True),
    ("good", "film, plot,cast"),
]


@pytest.fixture(scope="module")
def model(make_checkpoint):
    return make_checkpoint("bert", labels=ORDERS["mnli"])


@pytest.fixture(scope="module")
def task(model):
    return open_task(fetch(model), NAME)


def by_pipeline(folder):
    """transformers' pipeline over `ASKED`: label → score of each."""
    import transformers

    pipeline = transformers.pipeline(NAME, model=str(folder))
    found = []
    for text, labels, *more in ASKED:
        settings = dict(zip(("hypothesis_template", "multi_label"), more))
        # The pipeline refuses an empty text, which it reads as any other.
        answer = pipeline(text or " ", candidate_labels=labels, **settings)
        found.append(dict(zip(answer["labels"], answer["scores"])))
    return found


def answered(one):
    opened = open_task(one, NAME)
    with open_session(one, task=NAME) as session:
        return opened.decode(infer_all(session, opened.encode(ASKED), 4, 512))


@pytest.mark.parametrize(
    ("kind", "order"),
    [("bert", "mnli"), ("bert", "two"), ("xlm-roberta", "first"), ("deberta-v2", "middle"), ("bart", "mnli")],
)
def test_every_score_is_the_pipelines(kind, order, make_checkpoint, tmp_path):
    folder = make_checkpoint(kind, labels=ORDERS[order], **SETTINGS.get(kind, {}))
    source, expected = fetch(folder), by_pipeline(folder)
    graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source, NAME)))
    for one in (source, graph):
        for answer, scores in zip(answered(one), expected, strict=True):
            assert dict(zip(answer.labels, answer.scores)) == pytest.approx(scores, abs=1e-5)
            assert answer.scores == sorted(answer.scores, reverse=True)
    reference = REFERENCES[NAME](folder)
    outputs = reference.outputs(reference.rows(ASKED), ASKED)
    opened = open_task(source, NAME)
    assert [list(x) for x in opened.answers(outputs)] == reference.answers(outputs, ASKED)
    assert not reference.doubts


def test_what_the_pipeline_weighs_against_is_said_where_it_is_no_contradiction(make_checkpoint):
    folder = make_checkpoint("bert", labels=("neutral", "entailment", "contradiction"))
    assert "against 'neutral'" in REFERENCES[NAME](folder).doubts[0]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a fine film", "text with its candidate labels at position 1, received str"),
        (("film", []), "1 to 1,000 candidate labels at position 1, received 0"),
        (("film", " , "), "received 0"),
        (("film", ["a"]), "at least two candidate labels at position 1"),
        (("film", ["a", "b", "a"]), "received 0 and 2 of them equal"),
        (
            ("film", [f"{i}" for i in range(10_000)]),
            "1 to 1,000 candidate labels at position 1, received 10,000",
        ),
        (("film", ["a", 1]), "list of texts"),
        (("film", ["a", " "]), "list of texts"),
        ({"text": "film"}, "list of texts"),
        (("film", ["a", "b"], "no place"), "template with {} once"),
        (("film", ["a", "b"], "{} {}"), "received one with 2 fields"),
        (("film", ["a", "b"], "{:>999999999}"), "template with {} once"),
        (("film", ["a", "b"], "{0.__class__}"), "template with {} once"),
        (("film", ["a", "b"], "{label}"), "template with {} once"),
        (("film", ["a", "b"], "{"), "template with {} once"),
        (("film", ["a", "b"], True, "{}"), "received bool and str"),
        (("film " * 80, ["plot " * 80, "b"]), "second text that leaves the first some of 64 tokens"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_next_step(task, item, message):
    with pytest.raises(DataError, match=message) as refused:
        task.encode([("film", ["a", "b"]), item])
    assert refused.value.hint


def test_long_texts_are_cut_and_counted(task):
    encoded = task.encode([("plot " * 200, ["a", "b"]), ("film", ["a", "b"])])
    assert (encoded.truncated, max(encoded.lengths)) == (2, task.encoder.max_length)
    assert len(task.encode([("a", [f"label {i}" for i in range(MOST)])])) == MOST


@pytest.mark.parametrize(
    ("labels", "stated", "message"),
    [
        (("negative", "positive"), None, "one of whose labels is entailment.*negative, positive"),
        (("entailment",), None, "one of whose labels is entailment"),
        (ORDERS["mnli"], {"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2}, "disagrees with itself"),
        (ORDERS["mnli"], {"entailment": 7}, "disagrees with itself"),
    ],
)
def test_a_model_without_entailment_is_refused(make_checkpoint, labels, stated, message):
    folder = make_checkpoint("bert", labels=labels)
    if stated:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "label2id": stated}))
    with pytest.raises(CheckpointError, match=message) as refused:
        open_task(fetch(folder), NAME)
    assert refused.value.hint


def test_rows_are_read_with_their_own_labels_or_those_of_the_data(task):
    rows = [{"text": "a", "label": "film"}, {"text": "b", "label": "plot"}, {"text": "c", "label": "film"}]
    read = task.read(Dataset.from_list(rows), Columns())
    assert read.inputs[0] == ("a", ["film", "plot"], "This example is {}.", False)
    assert read.references == [["film"], ["plot"], ["film"]]
    named = Features({"text": Value("string"), "label": ClassLabel(names=["cast", "plot", "film"])})
    numbers = [{"text": "a", "label": 2}, {"text": "b", "label": 0}]
    read = task.read(Dataset.from_list(numbers, features=named), Columns())
    assert (read.inputs[1][1], read.references) == (["cast", "plot", "film"], [["film"], ["cast"]])
    own = [
        {"text": "a", "label": "y", "candidate_labels": ["x", "y"], "hypothesis_template": "the {}"},
        {"text": "b", "label": "0", "candidate_labels": ["x", "z"], "hypothesis_template": None},
    ]
    read = task.read(Dataset.from_list(own), Columns())
    assert [x[1:] for x in read.inputs] == [
        (["x", "y"], "the {}", False),
        (["x", "z"], "This example is {}.", False),
    ]
    assert read.references == [["y"], ["x"]]
    several = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["z"]}]
    read = task.read(Dataset.from_list(several), Columns())
    assert (read.inputs[1][1:], read.references) == (
        (["x", "y", "z"], "This example is {}.", True),
        [["x", "y"], ["z"]],
    )


@pytest.mark.parametrize(
    ("rows", "message", "hint"),
    [
        (
            [{"premise": "a", "hypothesis": "b", "label": "neutral"}] * 2,
            "received pairs",
            "text-classification",
        ),
        ([{"text": "a", "label": 0}, {"text": "b", "label": 1}], "received numbers", "labels.json"),
        ([{"text": "a", "label": "x", "candidate_labels": ["y", "z"]}], "'x' in row 0 is unknown", ""),
        ([{"text": "a", "label": "x", "candidate_labels": []}], "received 0", ""),
    ],
)
def test_rows_that_say_nothing_of_labels_are_refused(task, rows, message, hint):
    with pytest.raises(DataError, match=message) as refused:
        task.read(Dataset.from_list(rows), Columns())
    assert hint in refused.value.hint


def test_answers_are_scored(task):
    outputs = {
        "logits": [np.array([0, 0, 3, 0, 0, 1], np.float32), np.array([0, 0, 9, 9, 0, 0], np.float32)],
        "characters": [
            np.array([ord(c) for c in json.dumps([["x", "y"], several])]) for several in (False, True)
        ],
    }
    answers = task.answers(outputs)
    assert list(answers) == [("x",), ("x",)]
    assert task.outcomes(answers, [["x"], ["x", "y"]]).tolist() == [True, False]
    assert task.score(answers, [["x"], ["x", "y"]]) == 0.5
    by_f1 = type(task)("f1", task.encoder, 3, 2, 0)
    assert by_f1.score(answers, [["x"], ["x", "y"]]) == pytest.approx(0.5)  # x: 1, y: 0
    assert by_f1.outcomes(answers, [["x"], ["x"]]) is None
    first = task.decode(outputs)[0]
    assert task.line(first) == "x:0.8808\ty:0.1192"
    assert (task.fields(first)[0], task.name_of(["x"]), task.name_of(["x", "y"])) == ("x", "x", ["x", "y"])
    with pytest.raises(RecipeError, match="accurracy"):
        type(task).checked_metric("accurracy")


def test_a_whole_input_is_answered_as_its_pieces(task, tmp_path):
    with load(artifact(tmp_path / "model", NAME)) as predictor:
        for item in (*ASKED, {"text": "a", "candidate_labels": ["b", "c"], "multi_label": True}):
            whole = predictor.predict_one(item)
            joined = predictor.task.joined(predictor.predict(predictor.task.pieces(item)))
            assert joined.labels == whole.labels
            assert joined.scores == pytest.approx(whole.scores, abs=1e-6)
            assert predictor.task.alike(joined, whole) == 1
            again = predictor.predict_one(json.loads(json.dumps(predictor.task.to_json(item))))
            assert again.scores == pytest.approx(whole.scores, abs=1e-6)
    assert task.from_line("a\tb\tc") == ("a", ["b", "c"])
    asked = task.from_fields(["a", '["b"]', None, "True"])
    assert (asked["candidate_labels"], asked["multi_label"]) == (["b"], True)
    for call in (lambda: task.from_fields(["a", "[b"]), lambda: task.from_line("a")):
        with pytest.raises(DataError):
            call()


def test_data_to_int8_to_a_file_of_answers(model, tmp_path):
    rows = [{"text": f"a {a} film with a {b}", "label": a} for a in ("good", "bad", "dull") for b in LABELS]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    recipe = Recipe.of(["export-onnx", "quantize-dynamic"], Gate(max_drop=None))
    plan = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}
    report = compress(model, recipe, data=tmp_path, out=tmp_path / "small", task=NAME, **plan)
    assert (report.task, report.metric, report.rows[-1].precision) == (NAME, "accuracy", "int8")
    assert report.rows[0].notes["reference"]["by"] == "transformers"
    assert report.rows[1].agreement == 1  # the graph in fp32; of random weights INT8 turns many
    assert report.rows[-1].agreement > 0.5
    found = bench([str(tmp_path / "small"), str(model)], data=tmp_path, task=NAME, metric="f1", **plan)
    assert found.metric == "f1"

    answers = tmp_path / "out.jsonl"
    asked = {"text": "a film", "candidate_labels": LABELS, "hypothesis_template": "{}", "multi_label": True}
    write_jsonl(tmp_path / "in.jsonl", [asked] * 2)
    predict(tmp_path / "small", input=tmp_path / "in.jsonl", output=answers)
    with load(tmp_path / "small") as predictor:
        expected = predictor.predict_one(asked)
    for line in answers.read_text().splitlines():
        one = json.loads(line)
        assert (one["text"], one["labels"]) == ("a film", expected.labels)
        assert one["scores"] == pytest.approx(expected.scores, abs=1e-5)


def test_training_is_that_of_pairs(task):
    with pytest.raises(RecipeError, match="cannot be fine-tuned") as refused:
        task_to_train(NAME, Dataset.from_list([{"text": "a", "label": "b"}]), Columns())
    assert "--task text-classification" in refused.value.hint
