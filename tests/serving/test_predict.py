"""The public `predict`: a few texts, or a whole file of them, typed."""

from __future__ import annotations

import json

import pytest

import optkit
from optkit.errors import RecipeError
from optkit.events import Piece
from tests.serving.artifacts import artifact

TEXTS = ["a fine film", "dull"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("predict") / "model")


def test_texts_and_the_lines_of_a_file_have_the_same_typed_answers(model, tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    found = optkit.predict(model, TEXTS, threads=1)
    assert found.texts == tuple(TEXTS)
    assert [record["label"] for record in found.records] == [answer.label for answer in found.answers]
    assert all(answer.label in line for answer, line in zip(found.answers, found.lines))
    assert (found.rows, found.answered, found.output) == (2, 2, None)
    assert optkit.predict(model, input=tmp_path / "in.txt", threads=1) == found


def test_a_file_of_answers_is_written_and_counted(model, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    out = tmp_path / "out.jsonl"
    found = optkit.predict(model, input=tmp_path / "in.jsonl", output=out, threads=1)
    assert (found.output, found.rows, found.answered) == (out, 2, 2)
    assert found.seconds > 0
    labels = [json.loads(line)["label"] for line in out.read_text().splitlines()]
    assert labels == [answer.label for answer in optkit.predict(model, TEXTS, threads=1).answers]


def test_a_language_model_is_heard_while_it_writes(tmp_path):
    heard = []
    writer = artifact(tmp_path / "lm", "causal-lm")
    found = optkit.predict(writer, ["good"], max_new_tokens=3, stream=True, events=heard.append)
    pieces = [event.text for event in heard if isinstance(event, Piece)]
    assert pieces[0] == "good"
    assert pieces[-1] == "\n"
    assert "".join(pieces[1:-1]) == found.answers[0].text
    assert optkit.predict(writer, ["good"], max_new_tokens=3).answers[0].text == found.answers[0].text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"texts": TEXTS, "input": "in.txt"}, "either texts or --input"),
        ({"output": "out.jsonl"}, "--output needs --input"),
        ({"input": "in.jsonl", "output": "out.jsonl", "seed": 1}, "options of generation"),
        ({"texts": TEXTS, "keep": "text"}, "need --output"),
        ({"texts": TEXTS, "columns": optkit.Columns(text="x")}, "need --output"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_the_model_is_opened(given, said):
    with pytest.raises(RecipeError, match=said):
        optkit.predict("no such model", **given)
