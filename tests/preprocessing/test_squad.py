"""SQuAD JSON: one question that lacks a part costs that question."""

import json

import pytest

from optkit.errors import DataError
from optkit.preprocessing.run import preprocess

FINE = {"id": "1", "question": "Where?", "answers": [{"text": "Bonn", "answer_start": 3}]}
WHOLE = (1.0, 0.0, 0.0)


def squad(folder, *questions):
    paragraphs = [{"context": "In Bonn.", "qas": list(questions)}]
    (folder / "x.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return folder / "x.json"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"id": "2", "question": "Who?"}, r"data\[0\].paragraphs\[0\].qas\[1\] lacks 'answers'"),
        (FINE | {"answers": [{"text": "Bonn"}]}, "lacks 'answer_start'"),
        (FINE | {"answers": 7}, "is no question with a list of answers"),
        (FINE | {"answers": [{"text": "Bonn", "answer_start": "3"}]}, "expected whole numbers"),
        ("Who?", "is no question with a list of answers"),
    ],
)
def test_a_question_that_lacks_a_part_is_named_and_may_be_skipped(tmp_path, question, said):
    file = squad(tmp_path, FINE, question, FINE | {"id": "3"})
    with pytest.raises(DataError, match=f"corrupt question 2: .*{said}") as caught:
        preprocess(file, tmp_path / "out")
    assert "such questions out" in caught.value.hint
    report = preprocess(file, tmp_path / "out", skip_bad=1, shares=WHOLE)
    assert report.rows == {"train": 2}
    assert [x.line for x in report.skipped] == [2]


def test_questions_without_an_answer_are_kept_and_counted(tmp_path):
    file = squad(tmp_path, FINE, FINE | {"id": "2", "answers": [], "is_impossible": True})
    report = preprocess(file, tmp_path / "out", shares=WHOLE)
    assert report.rows == {"train": 2}
    assert report.questions_without_answer == {"train": 1}


@pytest.mark.parametrize("text", ['{"data": [{"title": "t"}]}', "[1]", "{", "[" * 100_000])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not SQuAD JSON|is not valid JSON|expected an object"):
        preprocess(tmp_path / "x.json", tmp_path / "out")
