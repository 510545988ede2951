"""Multiple choice: every logit as transformers' model gives it for all choices of a question together."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset

from optkit import load, predict
from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch, load_model
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task, task_to_train
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import tiny, write_jsonl, write_tokenizer
from tests.serving.artifacts import artifact

NAME = "multiple-choice"
ASKED = [
    ("which film", ["a fine film", "bad", "the plot is thin"]),
    ("the plot is thin " * 30, "who is bad", ["the cast " * 30, "not one"]),
    ("is it good", ["", "good", "very good", "dull", "bright"]),
    ("dull or bright", ["dull", "bright", "thin"]),
]
#: What a tiny model of a kind needs beside the usual.
SETTINGS = {
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    "albert": {"embedding_size": 16},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
}


def checkpoint_of(kind, folder):
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    sizes = {} if kind == "xlnet" else tiny(kind)
    config = transformers.AutoConfig.for_model(kind, **{**sizes, "vocab_size": 40, **SETTINGS.get(kind, {})})
    model = transformers.AutoModelForMultipleChoice.from_config(config)
    for p in model.parameters():  # logits far enough apart that rounding does not decide
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def pairs(item):
    *texts, choices = item
    return [(texts[0], " ".join([*texts[1:], choice])) for choice in choices]


def by_transformers(folder):
    """The logits of all choices of each question in one call, as run_swag.py asks."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModelForMultipleChoice.from_pretrained(str(folder)).eval()
    found = []
    for item in ASKED:
        feeds = tokenizer(
            *zip(*pairs(item)), truncation=True, max_length=64, padding=True, return_tensors="pt"
        )
        known = {
            n: v[None] for n, v in feeds.items() if n != "token_type_ids" or model.config.type_vocab_size > 1
        }
        with torch.inference_mode():
            found.append(model(**known).logits[0].numpy())
    return found


def logits(one):
    opened = open_task(one, NAME)
    with open_session(one, task=NAME) as session:
        return [x.logits for x in opened.decode(infer_all(session, opened.encode(ASKED), 4, 512))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint_of("bert", tmp_path_factory.mktemp("choice") / "bert")


@pytest.fixture(scope="module")
def task(model):
    return open_task(fetch(model))


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "albert"])
def test_every_logit_is_that_of_transformers(kind, tmp_path):
    folder = checkpoint_of(kind, tmp_path / kind)
    source, expected = fetch(folder), by_transformers(folder)
    assert infer_task(source) == NAME
    graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source)))
    graphs = [graph]
    if kind == "bert":  # OpenVINO folds the last reshape away, and calls the logits by another name as well
        graphs.append(apply(make("open-vino", {}), graph, tmp_path / "vino", make_context(open_task(source))))
    for one in (source, *graphs):
        for ours, theirs in zip(logits(one), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    reference = REFERENCES[NAME](folder)
    given = [(pairs(item)[0][0], [second for _, second in pairs(item)]) for item in ASKED]
    for alone in (False, True):
        outputs = reference.outputs(reference.rows(given), given, alone)
        for theirs, right in zip(outputs["logits"], expected, strict=True):
            np.testing.assert_allclose(theirs, right, atol=1e-4)
    assert reference.answers(outputs, given) == [int(x.argmax()) for x in expected]


def test_what_becomes_no_graph_says_so(tmp_path):
    source = fetch(checkpoint_of("xlnet", tmp_path / "xlnet"))
    with pytest.raises(CheckpointError, match="xlnet"):
        make("export-onnx", {}).check(source, open_task(source))


def test_a_pruned_and_distilled_student_learns_from_its_teacher(model, tmp_path):
    rows = [{"question": f"a {a} film", "choices": ["good", a, "thin"], "answer": a} for a in ("bad", "dull")]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows * 8)
    from optkit.data.dataset import Data

    source = fetch(model)
    context = make_context(open_task(source), Data(str(tmp_path)))
    pruned = apply(make("prune", {"share": 0.3, "samples": 32}), source, tmp_path / "pruned", context)
    settings = {"epochs": 1.0, "teacher": str(model), "learning_rate": 1e-3}
    taught = apply(make("distill", settings), pruned, tmp_path / "taught", context)
    notes = taught.lineage[-1]["notes"]
    assert type(load_model(taught)).__name__ == "BertForMultipleChoice"
    assert notes["history"]
    with pytest.raises(RecipeError, match="hard labels"):
        apply(make("distill", {**settings, "labels": 1.0}), pruned, tmp_path / "hard", context)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a fine film", "question with its choices at position 1, received str"),
        (("film", []), "2 to 1,000 choices at position 1, received 0"),
        (("film", ["a"]), "2 to 1,000 choices at position 1, received 1"),
        (("film", ["a"] * 10_000), "2 to 1,000 choices at position 1, received 10,000"),
        (("film", ["a", 1]), "list of texts"),
        (("film", "a, b"), "list of texts"),
        ((1, ["a", "b"]), "texts before the choices"),
        ({"question": "film"}, "list of texts"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_with_the_next_step(task, item, message):
    with pytest.raises(DataError, match=message) as refused:
        task.encode([("film", ["a", "b"]), item])
    assert refused.value.hint


ENDINGS = {f"ending{i}": text for i, text in enumerate(("a", "b", "c", "d"))}
LETTERS = {"label": ["A", "B"], "text": ["a", "b"]}
NUMBERS = {"label": ["1", "2"], "text": ["a", "b"]}
LISTED = [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]
EACH = {"answerA": "a", "answerB": "b"}


@pytest.mark.parametrize(
    ("row", "read", "right"),
    [
        ({"sent1": "x", "sent2": "y", **ENDINGS, "label": 2}, ("x", ["y a", "y b", "y c", "y d"]), 2),
        ({"article": "x", "question": "y", "options": ["a", "b"], "answer": "B"}, ("x", ["y a", "y b"]), 1),
        ({"id": "7", "question": "y", "choices": LETTERS, "answerKey": "B"}, ("y", ["a", "b"]), 1),
        ({"question_stem": "y", "choices": NUMBERS, "answerKey": "1"}, ("y", ["a", "b"]), 0),
        ({"question": "y", "choices": LISTED, "answerKey": "A"}, ("y", ["a", "b"]), 0),
        ({"ctx": "y", "endings": ["a", "b"], "label": "1"}, ("y", ["a", "b"]), 1),
        ({"context": "x", "question": "y", **EACH, "label": "A"}, ("x", ["y a", "y b"]), 0),
        ({"goal": "y", "sol1": "a", "sol2": "b", "label": 0}, ("y", ["a", "b"]), 0),
        ({"question": "y", "choices": ["a", "b"], "answer": "b"}, ("y", ["a", "b"]), 1),
        ({"context": "", "question": "y", "choices": ["a", "b"], "answer": 1}, ("y", ["a", "b"]), 1),
    ],
)  # fmt: skip
def test_rows_of_the_known_data_sets_are_read(task, row, read, right):
    labelled = task.read(Dataset.from_list([row]), Columns())
    assert (labelled.inputs, labelled.references) == ([read], [right])
    assert task_to_train(None, Dataset.from_list([row]), Columns()).name == NAME
    names = task.input_columns([n for n in row if n != labelled.columns.label])
    encoded = task.encode([task.from_columns(row, names)])
    np.testing.assert_equal(encoded.arrays, labelled.encoded.arrays)


@pytest.mark.parametrize("answer", ["C", 2, -1, "", None, "x", 0.5, "1"])
def test_an_answer_that_is_none_or_two_of_the_choices_is_refused(task, answer):
    row = {"question": "y", "choices": ["1", "0"], "answer": answer}
    with pytest.raises(DataError, match=r"answer of row 0 to be one of its 2 choices") as refused:
        task.read(Dataset.from_list([row]), Columns())
    assert "counted from 0" in refused.value.hint


def test_a_whole_input_is_answered_as_its_pieces(task, tmp_path):
    with load(artifact(tmp_path / "model", NAME)) as predictor:
        for item in ASKED:
            whole = predictor.predict_one(item)
            joined = predictor.task.joined(predictor.predict(predictor.task.pieces(item)))
            assert (joined.label, joined.scores) == (whole.label, pytest.approx(whole.scores, abs=1e-5))
            assert sum(whole.scores) == pytest.approx(1)
            assert predictor.task.alike(joined, whole) == 1
            assert predictor.predict_one(task.to_json(item)).label == whole.label
        row = {"context": "a film", "question": "is it", "choices": ["good", "bad"], "id": 7}
        write_jsonl(tmp_path / "in.jsonl", [row])
        predict(tmp_path / "model", input=tmp_path / "in.jsonl", output=tmp_path / "out.jsonl")
        found = json.loads((tmp_path / "out.jsonl").read_text())
        expected = predictor.predict_one({n: row[n] for n in ("context", "question", "choices")})
        assert (found["question"], found["label"]) == ("is it", expected.label)
    assert task.from_line("a\tb\tc") == ("a", ["b", "c"])
    assert task.from_fields(["a", '["b", "c"]', "d"])["context"] == "d"
    for call in (lambda: task.from_fields(["a", "b"]), lambda: task.from_line("a")):
        with pytest.raises(DataError):
            call()


def test_what_is_learned_is_the_loss_of_transformers_on_its_own_collators_batch(model):
    import torch
    import transformers

    from optkit.training.finetune import _collate, _loader

    source = fetch(model)
    goal = type(open_task(source)).for_training(source, {}, None)
    rows = [
        {"question": "a", "choices": ["good", "bad"], "answer": 1},
        {"question": "the plot", "choices": ["good film", "bad"], "answer": 0},
        {"question": "one", "choices": ["a", "the", "not", "very good"], "answer": 3},
    ]
    labelled = goal.to_learn(goal.read(Dataset.from_list(rows), Columns()), 0)
    network = goal.network(source, {}, _loader(source, set(), goal.new_parts)).eval()
    collate = _collate(goal, network, (labelled, labelled), None)
    plain = transformers.AutoModelForMultipleChoice.from_pretrained(str(model)).eval()
    library = transformers.DataCollatorForMultipleChoice(
        transformers.AutoTokenizer.from_pretrained(str(model))
    )

    def theirs(chosen):
        features = []
        for row in chosen:
            encoded = library.tokenizer([row["question"]] * len(row["choices"]), row["choices"])
            features.append({**encoded, "labels": row["answer"]})
        return library(features)

    batch = collate([{"split": 1, "index": i} for i in (0, 1)])
    expected = theirs(rows[:2])
    for name, values in expected.items():
        assert torch.equal(batch[name], values), name
    one, other = network(**batch), plain(**expected)
    assert one.loss.item() == pytest.approx(other.loss.item(), abs=1e-6)
    # Questions of several numbers of choices: the mean of what each costs alone.
    mixed = network(**collate([{"split": 1, "index": i} for i in range(3)]))
    alone = [plain(**theirs([row])).loss.item() for row in rows]
    assert mixed.loss.item() == pytest.approx(np.mean(alone), abs=1e-5)
    assert mixed.logits.argmax(1).tolist()[0] < 2


def test_the_right_choice_is_learned_from_questions_of_several_lengths(checkpoint, tmp_path):
    words = ("film", "plot", "cast", "good", "bad", "dull")
    rows = [
        {"question": f"one {a}", "choices": [a, *others], "answer": 0}
        for a in words
        for others in (["very"], ["not", "the"], ["two", "thin", "is"])
    ]
    turned = [
        {**row, "choices": [*row["choices"][1:], row["choices"][0]], "answer": len(row["choices"]) - 1}
        for row in rows
    ]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", [*rows, *turned])
    settings = FinetuneSettings(epochs=6, batch=8, learning_rate=3e-3, max_length=None)
    tuned = finetune(checkpoint, tmp_path, tmp_path / "tuned", settings)
    assert (tuned.task, tuned.config["architectures"]) == (NAME, ["BertForMultipleChoice"])
    notes = Artifact.open(tuned.path).lineage[-1]["notes"]
    assert notes["score"] > 0.8
