"""The whole way: files in, splits out, the same whatever happens between."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from optkit.core.files import sha256
from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.preprocessing import run
from optkit.preprocessing.report import Conflict
from optkit.preprocessing.run import preprocess
from optkit.tasks.base import Columns


def raw(folder, count=300):
    file = folder / "raw.jsonl"
    lines = [json.dumps({"text": f"text  number {i}\u0000", "label": "ab"[i % 2]}) for i in range(count)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def hashes(folder):
    return {f.name: sha256(f) for f in sorted(folder.glob("*.jsonl"))}


def test_splits_are_read_by_data_and_do_not_depend_on_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SHARD", 50)
    file = raw(tmp_path)
    report = preprocess(file, tmp_path / "one")
    preprocess(file, tmp_path / "two", processes=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert sum(report.rows.values()) == 300
    found = Data(str(tmp_path / "one"))
    assert sorted(found.splits) == ["test", "train", "validation"]
    expected = {f"text number {i}" for i in range(300)}
    assert set(found.split("train")["text"]) < expected
    assert not (tmp_path / ".one.work").exists()


def test_appended_rows_move_nothing(tmp_path):
    def split_by_text(count, name):
        preprocess(raw(tmp_path, count), tmp_path / name)
        return {
            json.loads(line)["text"]: file.stem
            for file in (tmp_path / name).glob("*.jsonl")
            for line in file.read_text(encoding="utf-8").splitlines()
        }

    before, after = split_by_text(200, "a"), split_by_text(300, "b")
    assert before.items() <= after.items()


def test_killed_it_resumes_to_the_same_bytes(tmp_path):
    file = raw(tmp_path, 40_000)
    preprocess(file, tmp_path / "whole")
    command = [sys.executable, "-m", "optkit", "preprocess", str(file), "--out", str(tmp_path / "out"), "-q"]
    child = subprocess.Popen(command, env=os.environ)
    work = tmp_path / ".out.work"
    end = time.monotonic() + 60
    while time.monotonic() < end and len(list(work.glob("*/all-*.jsonl"))) < 3:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = list(work.glob("*/all-*.jsonl"))
    assert left, "killed too late to prove anything"
    assert not (tmp_path / "out").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_a_corrupt_line_is_named_and_may_be_skipped(tmp_path):
    file = raw(tmp_path, 100)
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[6] = '{"text": '
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="corrupt line 7"):
        preprocess(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report = preprocess(file, tmp_path / "out", skip_bad=1)
    assert report.skipped[0].line == 7
    assert sum(report.rows.values()) == 99


def test_duplicates_conflicts_and_one_class(tmp_path):
    file = tmp_path / "raw.csv"
    file.write_text("text,label\n" + "same,a\nsame,b\n" + "".join(f"t{i},a\n" for i in range(50)), "utf-8")
    report = preprocess(file, tmp_path / "kept", shares=(1.0, 0.0, 0.0))
    assert report.duplicates == 1
    assert report.conflicting == 1
    with pytest.raises(DataError, match="one only: 'a'"):
        preprocess(file, tmp_path / "out", drop_duplicates=True)


def test_labels_that_train_lacks_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").write_text("text,label\nx,a\ny,b\n", "utf-8")
    (tmp_path / "in" / "test.csv").write_text("text,label\nz,c\n", "utf-8")
    with pytest.raises(DataError, match="labels that train lacks: c"):
        preprocess(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(("known", "other", "refused"), [("0,1", "7", True), ("0.5,1.5", "2.5", False)])
def test_numbers_are_classes_unless_they_have_fractions(tmp_path, known, other, refused):
    a, b = known.split(",")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").write_text(f"text,label\nx,{a}\ny,{b}\n", "utf-8")
    (tmp_path / "in" / "test.csv").write_text(f"text,label\nz,{other}\n", "utf-8")
    if refused:
        with pytest.raises(DataError, match="train lacks: 7"):
            preprocess(tmp_path / "in", tmp_path / "out")
    else:
        assert preprocess(tmp_path / "in", tmp_path / "out").rows == {"train": 2, "test": 1}


def test_conll_keeps_tokens_and_tags(tmp_path):
    file = tmp_path / "train.conll"
    file.write_text("Ada B-PER\nran O\n\nBonn B-LOC\n", encoding="utf-8")
    preprocess(file, tmp_path / "out", shares=(1.0, 0.0, 0.0))
    rows = [json.loads(x) for x in (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()]
    assert rows == [
        {"tokens": ["Ada", "ran"], "tags": ["B-PER", "O"]},
        {"tokens": ["Bonn"], "tags": ["B-LOC"]},
    ]


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "x.jsonl").touch()
    with pytest.raises(DataError, match="empty"):
        preprocess(tmp_path / "x.jsonl", tmp_path / "out")


def test_squad_and_an_answer_that_is_not_in_its_context(tmp_path):
    def squad(start):
        answers = [{"text": "Bonn", "answer_start": start}]
        asked = [{"id": "q1", "question": "Where?", "answers": answers}]
        text = json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "In  Bonn.", "qas": asked}]}]})
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        return tmp_path / "x.json"

    with pytest.raises(DataError, match="'q1' is not found"):
        preprocess(squad(2), tmp_path / "out")
    preprocess(squad(4), tmp_path / "out", shares=(1.0, 0.0, 0.0))
    row = json.loads((tmp_path / "out" / "train.jsonl").read_text("utf-8"))
    assert row["context"] == "In  Bonn."
    assert row["answers"] == {"text": ["Bonn"], "answer_start": [4]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["Ada", "ran"], "tags": ["O", "I-PER"]}, "not valid BIO: 'I-PER' at word 1"),
        (
            {"tokens": ["Ada", "ran"], "tags": ["O"]},
            "expected 2 tags in column 'tags', one per word, received 1",
        ),
        ({"tokens": "Ada ran", "tags": ["O"]}, "a list of words"),
        ({"text": ["x"], "label": "a"}, "expected text in column 'text', received a list"),
        (
            {
                "id": 7,
                "question": "q",
                "context": "In Bonn.",
                "answers": {"text": ["Ulm"], "answer_start": [3]},
            },
            "the answer of question 7 is not found",
        ),
    ],
)
def test_a_row_that_makes_no_sense_is_named_and_may_be_skipped(tmp_path, row, said):
    fine = [{k: v for k, v in row.items()} for _ in range(2)]
    for good in fine:
        if "tokens" in row:
            good |= {"tokens": ["Ada", "ran"], "tags": ["B-PER", "O"]}
        elif "answers" in row:
            good |= {"answers": {"text": ["Bonn"], "answer_start": [3]}}
        else:
            good |= {"text": "x"}
    fine[1] |= {"label": "b"} if "label" in row else {}
    lines = [json.dumps(x) for x in (fine[0], row, fine[1])]
    (tmp_path / "raw.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=f"corrupt line 2: .*{said}"):
        preprocess(tmp_path / "raw.jsonl", tmp_path / "out")
    report = preprocess(tmp_path / "raw.jsonl", tmp_path / "out", skip_bad=1, shares=(1.0, 0.0, 0.0))
    assert [x.line for x in report.skipped] == [2]


QUESTION = {
    "id": 1,
    "question": "q",
    "context": "In Bonn.",
    "answers": {"text": ["Bonn"], "answer_start": [3]},
}


@pytest.mark.parametrize(
    ("fine", "change", "said"),
    [
        ({"text": "x"}, {"text": ...}, "expected a column 'text' .--text-column., received id"),
        (QUESTION, {"context": None}, "expected text in column 'context', received None"),
        (QUESTION, {"question": ...}, "expected text in column 'question', received None"),
        (
            QUESTION,
            {"context": ...},
            "expected a column 'text' .--text-column., received id, question, answers",
        ),
        (QUESTION, {"answers": None}, "expected as many texts as starts"),
        (QUESTION, {"answers": {"text": ["Bonn"], "answer_start": ["3"]}}, "expected whole numbers"),
        (QUESTION, {"answers": {"text": [7], "answer_start": [3]}}, "expected texts in column 'answers'"),
        (QUESTION, {"answers": {"text": [""], "answer_start": [3]}}, "the answer of question 1"),
        (QUESTION, {"answers": {"text": ["."], "answer_start": [-1]}}, "the answer of question 1"),
    ],
)
def test_a_row_that_lacks_a_part_is_named_and_may_be_skipped(tmp_path, fine, change, said):
    fine = {"id": 1, **fine}
    bad = {name: value for name, value in {**fine, **change}.items() if value is not ...}
    file = pairs(tmp_path, [fine, bad, {**fine, "id": 2}])
    with pytest.raises(DataError, match=f"corrupt line 2: {said}"):
        preprocess(file, tmp_path / "out")
    report = preprocess(file, tmp_path / "out", skip_bad=1, shares=(1.0, 0.0, 0.0))
    assert report.rows == {"train": 2}
    assert [x.line for x in report.skipped] == [2]


def test_a_number_that_python_refuses_is_a_corrupt_line(tmp_path):
    (tmp_path / "raw.jsonl").write_text(f'{{"text": {"9" * 5000}}}\n' + '{"text": "x"}\n', encoding="utf-8")
    report = preprocess(tmp_path / "raw.jsonl", tmp_path / "out", skip_bad=1, shares=(1.0, 0.0, 0.0))
    assert report.rows == {"train": 1}


def test_a_hub_data_set_comes_with_its_splits_and_the_names_of_its_labels(tmp_path, monkeypatch):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    table = datasets.Dataset.from_dict({"text": ["x", "y  z"], "label": [1, 0]}, features=features)
    asked = []

    def load(*arguments):
        asked.append(arguments)
        return datasets.DatasetDict({"train": table, "validation": table})

    monkeypatch.setattr(datasets, "load_dataset", load)
    report = preprocess("owner/name:config", tmp_path / "out")
    assert asked[0] == ("owner/name", "config")
    assert report.rows == {"train": 2, "validation": 2}
    rows = [json.loads(x) for x in (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()]
    assert rows == [{"text": "x", "label": "good"}, {"text": "y z", "label": "bad"}]


def pairs(folder, rows):
    file = folder / "raw.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_a_pair_is_both_of_its_texts(tmp_path):
    rows = [{"text": "p", "text_pair": f"h  {i}", "label": "abc"[i]} for i in range(3)]
    rows.append({"text": "p ", "text_pair": "h 0", "label": "b"})
    settings = dict(drop_duplicates=True, shares=(1.0, 0.0, 0.0))
    report = preprocess(pairs(tmp_path, rows), tmp_path / "out", **settings)
    assert report.rows == {"train": 3}
    assert report.duplicates == 1
    assert report.conflicts == (Conflict("p ⟂ h 0", ("a", "b")),)
    assert report.lengths_in_words["<= 8"] == 3
    written = [json.loads(x) for x in (tmp_path / "out" / "train.jsonl").read_text("utf-8").splitlines()]
    assert [row["text_pair"] for row in written] == ["h 0", "h 1", "h 2"]


def test_the_second_text_has_the_names_that_finetune_knows_or_the_one_given(tmp_path):
    rows = [{"text": "p", "hypothesis": "h  1", "other": f"o  {i}", "label": "ab"[i]} for i in range(2)]
    file = pairs(tmp_path, rows)
    whole = (1.0, 0.0, 0.0)
    report = preprocess(file, tmp_path / "one", shares=whole)
    assert report.conflicting == 1
    report = preprocess(file, tmp_path / "two", columns=Columns(pair="other"), shares=whole)
    assert report.duplicates == 0
    row = json.loads((tmp_path / "two" / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert (row["hypothesis"], row["other"]) == ("h  1", "o 0")
    with pytest.raises(DataError, match="line 1: expected a column 'odd' .--pair-column., received text,"):
        preprocess(file, tmp_path / "three", columns=Columns(pair="odd"))


def test_a_pair_without_a_second_text_is_empty(tmp_path):
    rows = [{"text": "p", "text_pair": ["h", "", None][i % 3], "label": "ab"[i % 2]} for i in range(6)]
    report = preprocess(pairs(tmp_path, rows), tmp_path / "out", shares=(1.0, 0.0, 0.0))
    assert report.empty_texts == 4
    assert report.rows == {"train": 2}


def test_pairs_of_a_csv_file_do_not_depend_on_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "SHARD", 20)
    lines = [f'premise  {i // 3},"hypothesis {i}\n  goes on",{i % 3}' for i in range(90)]
    (tmp_path / "raw.csv").write_text("\n".join(["text,text_pair,label", *lines]), encoding="utf-8")
    settings = dict(drop_duplicates=True, encode_labels=True, stratify=True)
    report = preprocess(tmp_path / "raw.csv", tmp_path / "one", **settings)
    preprocess(tmp_path / "raw.csv", tmp_path / "two", **settings, processes=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert report.rows == {"train": 72, "validation": 9, "test": 9}
