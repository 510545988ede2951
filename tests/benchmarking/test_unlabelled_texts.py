"""Texts without labels come from any of the known files; what is no text is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optkit.benchmarking import unlabelled_texts as unlabelled
from optkit.errors import DataError
from optkit.tasks.base import Columns, task_type


def read(file, task="text-classification"):
    return unlabelled.read(file, task_type(task))[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\n\ntwo\n"),
        ("a.txt", "one\r\n\r\ntwo"),
        ("a.jsonl", '{"text": "one"}\n{"text": ""}\n{"text": "two"}\n'),
        ("a.csv", "sentence,label\none,1\ntwo,0\n"),
    ],
)
def test_the_texts_are_read(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert read(str(tmp_path / name)) == ["one", "two"]


def test_only_an_empty_field_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,NA\n2,""\n3,None\n')
    assert read(str(tmp_path / "a.csv")) == ["NA", "None"]


def test_a_line_ends_at_a_line_feed_only(tmp_path):
    (tmp_path / "a.txt").write_bytes("a\u2028b\n\x0cc\x85d\n".encode())
    assert read(str(tmp_path / "a.txt")) == ["a\u2028b", "\x0cc\x85d"]


def test_words_stay_words(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": ["one", "two"]}) + "\n")
    assert read(str(tmp_path / "a.jsonl"), "token-classification") == [["one", "two"]]


def test_pairs_are_read_as_every_command_reads_them(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("premise,hypothesis,label\none,two,0\n,,1\n")
    task = task_type("text-classification")
    assert unlabelled.read(str(file), task) == ([("one", "two")], Columns("premise", "hypothesis"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n\n", "holds no text"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"id": 1}\n', "Cannot tell which column"),
        ("a.jsonl", b'{"text": 1}\n', "received int in row 1"),
    ],
)
def test_other_files_are_refused(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read(str(tmp_path / name))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(str(tmp_path / "none.txt"))


def test_a_file_that_opens_and_cannot_be_read():
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no such file")
    with pytest.raises(DataError, match="Cannot read '/proc/self/mem'"):
        unlabelled.there("/proc/self/mem")
