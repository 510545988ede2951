from __future__ import annotations

import json
import shutil

import datasets
import numpy as np
import pytest

from optkit import Gate, Recipe, bench, compress, load
from optkit.core.artifact import MANIFEST, Artifact
from optkit.errors import DataError, RecipeError
from optkit.tasks.base import Columns, open_task
from optkit.tasks.question_answering import MAX_ANSWER, THRESHOLD, Answer
from optkit.tasks.squad_metrics import best_threshold, doubts, exact_match, f1, normalize
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import WORDS, write_jsonl, write_tokenizer


@pytest.fixture
def task(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    config = {"architectures": ["BertForQuestionAnswering"], "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return open_task(Artifact.open(tmp_path))


def table(context, text, start):
    answers = [{"text": [text], "answer_start": [start]}]
    return datasets.Dataset.from_dict({"question": ["not one"], "context": [context], "answers": answers})


@pytest.mark.parametrize("place", [1, 2, 30, 57, 58, 150, 299])
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_answer_is_found_wherever_it_lies(task, place, side):
    task.encoder.truncation_side = side
    words = [WORDS[i % len(WORDS)] for i in range(300)]
    context = " ".join(words)
    start = len(" ".join(words[:place])) + (place > 0)
    labelled = task.read(table(context, words[place], start), Columns())
    assert labelled.encoded.lengths.max() <= 64
    targets = task.targets(labelled)
    lengths = labelled.encoded.lengths
    logits = {
        f"{end}_logits": [np.eye(n)[p] * 9 for n, p in zip(lengths, targets[f"{end}_positions"])]
        for end in ("start", "end")
    }
    outputs = labelled.encoded.windows.gather(logits)
    answer = task.decode(outputs)[0]
    assert (answer.text, answer.start) == (words[place], start)
    assert context[answer.start : answer.end] == answer.text
    assert task.score(task.answers(outputs), labelled.references) == 1


def test_an_answer_is_no_longer_than_allowed_and_never_ends_before_it_begins(task):
    context = "good bad " * 20
    encoded = task.encode([("one", context)])
    n = int(encoded.lengths[0])
    start, end = np.zeros(n), np.zeros(n)
    start[5], end[-2], end[4] = 5, 9, 20
    outputs = encoded.windows.gather({"start_logits": [start], "end_logits": [end]})
    answer = task.decode(outputs)[0]
    assert answer.end > answer.start
    assert len(answer.text.split()) <= MAX_ANSWER


def test_metrics_are_those_of_the_official_script():
    # values of evaluate-v1.1.py
    assert normalize("The  Eiffel-Tower, an x!") == "eiffeltower x"
    assert exact_match("the Cat.", "cat")
    assert not exact_match("cats", "cat")
    assert f1("a big cat", "big black cat") == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert f1("dog", "cat") == 0
    assert f1("the", "a") == 0  # nothing is left, nothing in common


@pytest.mark.parametrize(("text", "start"), [("film", 0), ("absent", 2), ("a", 99), ("a", -1)])
def test_an_answer_that_is_not_in_its_context_names_the_row(task, text, start):
    with pytest.raises(DataError, match="row 0"):
        task.read(table("the film", text, start), Columns())


def test_a_question_without_an_answer_says_what_it_needs(task):
    """Of a model that always answers; the hint names both ways out."""
    with pytest.raises(DataError, match="at least one answer") as caught:
        task.read(questions([False]), Columns())
    assert "training split" in caught.value.hint
    assert THRESHOLD in caught.value.hint


def test_other_bad_inputs(task):
    with pytest.raises(DataError, match="question and its context at position 0"):
        task.encode(["alone"])
    with pytest.raises(DataError, match="Expected a first text that leaves"):
        task.encode([("film " * 60, "the plot")])
    assert (
        task.decode(
            task.encode([("a", "")]).windows.gather(
                {k: [np.zeros(4)] for k in ("start_logits", "end_logits")}
            )
        )[0].text
        == ""
    )
    assert task.from_line("who\tthe film") == ("who", "the film")
    with pytest.raises(DataError, match="a tab"):
        task.from_line("who")


def test_a_long_question_cannot_multiply_the_windows(task):
    """Each window advances by at least the quarter that two of them share, or the question is refused."""
    context = "good " * 600
    encoded = task.encode([("bad " * 29, context)])
    assert len(encoded.lengths) <= 600 / 16 + 1
    with pytest.raises(DataError, match="leaves 32 of 64 tokens for the second, received one of 30 tokens"):
        task.encode([("bad " * 30, context)])


NOTHING = {"text": [], "answer_start": []}


def questions(has):
    """Rows of one short context; those that are not `has` lack an answer."""
    return datasets.Dataset.from_list(
        [
            {
                "question": "one",
                "context": "film good",
                "answers": {"text": ["film"], "answer_start": [0]} if x else NOTHING,
            }
            for x in has
        ]
    )


def refusing(task, threshold=0.0):
    task.null_threshold = threshold
    return task


def answered(task, nulls, span=2.0, place=3):
    """Outputs for as many short contexts: logits of the first token, and of one word's both ends."""
    encoded = task.encode([("one", "film good")] * len(nulls))
    rows = []
    for null, length in zip(nulls, encoded.lengths):
        row = np.full(int(length), -9.0)
        row[0], row[place] = null / 2, span / 2
        rows.append(row)
    return encoded.windows.gather({"start_logits": rows, "end_logits": rows})


@pytest.mark.parametrize(
    ("threshold", "null", "text"), [(0.0, 1.0, "film"), (0.0, 3.0, ""), (2.0, 3.0, "film"), (-2.0, 1.0, "")]
)
def test_no_answer_is_typed_and_given_beyond_the_threshold_alone(task, threshold, null, text):
    [answer] = task.decode(answered(refusing(task, threshold), [null]))
    assert (answer.text, answer.has_answer) == (text, bool(text))
    assert answer.label == (text or "(no answer)")
    assert task.line(answer).startswith(text or "(no answer)")
    assert task.describe(answer)["has_answer"] is bool(text)
    ends = np.exp(np.array([null / 2, 1.0, -9.0]))  # the first token, two words
    right = ends[1] if text else ends[0]
    assert answer.score == pytest.approx((right / ends.sum()) ** 2)


def test_an_empty_context_has_no_answer(task):
    for threshold in (None, 0.0):
        encoded = refusing(task, threshold).encode([("a", "")])
        logits = {f"{end}_logits": [np.zeros(4)] for end in ("start", "end")}
        assert not task.decode(encoded.windows.gather(logits))[0].has_answer


@pytest.mark.parametrize("side", ["right", "left"])
def test_of_several_windows_the_one_that_is_least_for_no_answer_counts(task, side):
    task.encoder.truncation_side = side
    encoded = refusing(task).encode([("one", "good bad " * 60)])
    rows = [np.full(int(n), -9.0) for n in encoded.lengths]
    assert len(rows) > 2
    for row in rows:
        row[0] = 5.0
    assert not task.decode(encoded.windows.gather({"start_logits": rows, "end_logits": rows}))[0].has_answer
    rows[1][0], rows[1][7] = -9.0, 1.0
    assert task.decode(encoded.windows.gather({"start_logits": rows, "end_logits": rows}))[0].has_answer


def test_questions_without_an_answer_are_scored_and_learned_as_such(task):
    rows = questions([True, False])
    assert task.training_config(rows, Columns()) == {THRESHOLD: 0.0}
    assert task.training_config(rows.select([0]), Columns()) == {THRESHOLD: None}
    labelled = refusing(task).read(rows, Columns())
    targets = task.targets(labelled)
    assert (targets["start_positions"], targets["end_positions"]) == ([3, 0], [3, 0])
    for metric in task.metrics:
        task.metric = metric
        for given, right in ((["film", ""], [1, 1]), (["", "film"], [0, 0])):
            assert task.outcomes(np.array(given, dtype=object), labelled.references).tolist() == right
    lines = task.table(np.array(["film good", ""], dtype=object), labelled.references)
    assert [tuple(vars(x).values()) for x in lines] == [
        ("HasAns", 0.0, pytest.approx(2 / 3), 0, 1),
        ("NoAns", 1.0, 1.0, 1, 1),
        ("all", 0.5, pytest.approx(5 / 6), 1, 2),
    ]
    assert task.name_of(labelled.references[1]) == "(no answer)"


def test_the_threshold_is_the_best_on_validation_and_lies_between_two_questions(task):
    has = [True, True, True, False, False, False]
    outputs = answered(refusing(task), [1.0, 2.0, 4.5, 3.0, 6.0, 7.0], span=1.0)
    references = task.read(questions(has), Columns()).references
    best = task.settled(outputs, references)
    assert task.null_threshold == 0  # the task itself stays as it was
    assert best.settled_config == {THRESHOLD: pytest.approx(1.5)}  # of two that are as good the lower one
    assert best.score(best.answers(outputs), references) == pytest.approx(5 / 6)
    worst = min(refusing(task, t).score(task.answers(outputs), references) for t in (-9.0, 9.0))
    assert worst == pytest.approx(0.5)
    assert task.settled(answered(task, [1.0]), references[:1]) is task  # of one kind nothing is chosen


def test_ties_are_answered_alike():
    over, ones = np.array([1.0, 1.0, 1.0]), np.ones(3)
    assert best_threshold(over, np.array([1.0, 1.0, 0.0]), 1 - np.array([1.0, 1.0, 0.0])) > 1
    assert best_threshold(over, 0 * ones, ones) < 1


@pytest.mark.parametrize(
    ("has", "given", "said"),
    [
        ([True, False], ["", ""], "m answers none of the 2 questions"),
        ([True, False], ["film", "film"], "m answers each of the 1 questions that have no answer"),
        ([True], ["film"], "No question of this split lacks an answer"),
        ([False], [""], "Every question of this split lacks an answer"),
        ([True, False], ["film", ""], None),
    ],
)
def test_odd_mixtures_and_thresholds_are_said(task, has, given, said):
    references = refusing(task).read(questions(has), Columns()).references
    lines = [vars(x) for x in task.table(np.array(given, dtype=object), references)]
    found = task.doubts("m", lines)
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)
    assert doubts("m", []) == []


def test_models_with_other_thresholds_are_compared_each_by_its_own(task, tmp_path):
    outputs = answered(refusing(task, 0.0), [1.0, 3.0])
    config = json.loads((tmp_path / "config.json").read_text())
    for own, texts in ((0.0, ["film", ""]), (4.0, ["film", "film"]), (-4.0, ["", ""])):
        (tmp_path / "config.json").write_text(json.dumps({**config, THRESHOLD: own}))
        moved = task.comparable(Artifact.open(tmp_path), outputs)
        assert task.answers(moved).tolist() == texts
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match="received both kinds"):
        task.comparable(Artifact.open(tmp_path), outputs)


def test_splits_that_nothing_can_be_learned_or_chosen_from_are_refused(checkpoint, tmp_path):
    """Before the training: all of train without an answer, validation of one kind, train of another."""
    settings = FinetuneSettings(epochs=1, batch=8, max_length=None)
    both, none, every = [True, False], [False, False], [True, True]
    for train, validation, said in (
        (none, both, "received none: there is no span to learn"),
        (both, every, "received 0 without an answer among 2"),
        (both, none, "received 2 without an answer among 2"),
        (every, both, "at least one answer with its start in row 1"),
    ):
        write_jsonl(tmp_path / "train.jsonl", list(questions(train)))
        write_jsonl(tmp_path / "validation.jsonl", list(questions(validation)))
        with pytest.raises(DataError, match=said):
            finetune(checkpoint, tmp_path, tmp_path / "out", settings)
        assert not (tmp_path / "out").exists()


def test_a_model_that_may_give_no_answer_goes_the_whole_way(checkpoint, tmp_path):
    """Learned, its threshold stored and applied; the baseline, which transformers answers, agrees."""
    rows = []
    for i in range(48):
        words = [WORDS[(i + j) % len(WORDS)] for j in range(4)]
        has = {"text": [words[1]], "answer_start": [len(words[0]) + 1]}
        rows.append({"question": "one", "context": " ".join(words), "answers": has if i % 2 else NOTHING})
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    settings = FinetuneSettings(epochs=1, batch=16, max_length=None)
    tuned = finetune(checkpoint, tmp_path, tmp_path / "tuned", settings)
    notes = tuned.lineage[-1]["notes"]
    assert [line["label"] for line in notes["table"]] == ["HasAns", "NoAns", "all"]
    assert tuned.config[THRESHOLD] == notes[THRESHOLD] != 0
    recipe, out = Recipe.of(["export-onnx", "quantize-dynamic"], Gate(max_drop=None)), tmp_path / "small"
    report = compress(tuned.path, recipe, data=tmp_path, out=out, shapes=("1x8",), rounds=1, processes=1)
    assert report.rows[0].notes["reference"]["by"] == "transformers"
    for row in report.rows[:2]:
        assert row.score == pytest.approx(notes["score"], abs=1e-6)
        assert row.table == notes["table"]
    with load(out) as model:
        assert model.task.null_threshold == notes[THRESHOLD]
        answers = model.predict([(row["question"], row["context"]) for row in rows])
    assert sum(not answer.has_answer for answer in answers) == report.rows[-1].table[-1]["no_answer"]
    assert all(isinstance(answer, Answer) for answer in answers)

    # Of a twin with another threshold the bench scores what it would answer itself.
    twin = tmp_path / "twin"
    shutil.copytree(tuned.path, twin)
    (twin / MANIFEST).unlink()
    (twin / "config.json").write_text(json.dumps({**tuned.config, THRESHOLD: 1e5}))
    plan = {"shapes": ("1x8",), "rounds": 1, "processes": 1, "warmup": 0}
    found = bench([str(tuned.path), str(twin)], data=tmp_path, **plan)
    assert found.rows[0].table == notes["table"]
    assert [line["no_answer"] for line in found.rows[1].table] == [0, 0, 0]
    assert any("twin answers each of the 24 questions" in doubt for doubt in found.doubts)
