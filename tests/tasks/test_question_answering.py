from __future__ import annotations

import json

import datasets
import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import DataError
from optkit.tasks.base import Columns, open_task
from optkit.tasks.question_answering import MAX_ANSWER, exact_match, f1, normalize
from tests.conftest import WORDS, write_tokenizer


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


def test_a_question_without_an_answer(task):
    rows = datasets.Dataset.from_dict(
        {"question": ["a"], "context": ["film"], "answers": [{"text": [], "answer_start": []}]}
    )
    with pytest.raises(DataError, match="at least one answer"):
        task.read(rows, Columns())


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
