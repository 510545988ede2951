"""Every command reads the same columns of a row: one list per task, asked for everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from optkit import tasks
from optkit.benchmarking import unlabelled_texts as unlabelled
from optkit.errors import DataError, RecipeError
from optkit.serving import offline
from optkit.tasks.base import Columns, Task, task_type

TASKS = sorted(tasks.TASKS)
TEXTS = ("text-classification", "embeddings", "causal-lm", "question-answering")


@pytest.mark.parametrize("name", TASKS)
def test_the_first_name_in_the_tasks_order_wins(name):
    task = task_type(name)
    for part, known in task.columns.items():
        if part in ("text", "pair", "label"):
            for i, wanted in enumerate(known := tuple(dict.fromkeys(known))):
                assert task.column(["id", *reversed(known[i:])], part) == wanted
    with pytest.raises(DataError, match="Cannot tell which column holds the .*id, other"):
        task.column(["id", "other"], "text")


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=25)
@given(data=st.data())
def test_rows_with_and_without_labels_are_read_alike(name, data, tmp_path_factory):
    task = task_type(name)
    known = sorted({n for names in task.columns.values() for n in names} | {"id", "extra"})
    names = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    row = {n: f"the {n}" for n in names}
    folder = tmp_path_factory.mktemp("rows")
    (folder / "x.jsonl").write_text(json.dumps(row) + "\n")
    try:
        wanted = task.input_columns(names)
    except DataError:
        with pytest.raises(DataError):
            unlabelled.read(str(folder / "x.jsonl"), task)
        return
    item = row[wanted[0]] if len(wanted) == 1 else tuple(row[n] for n in wanted)
    assert unlabelled.read(str(folder / "x.jsonl"), task) == ([item], Columns(*wanted))
    job = offline.Job("m", "x.jsonl", "y.jsonl", columns=wanted)
    assert offline._input(task, job, 0, row)[0] == item
    if "label" in task.columns and name == "text-classification":  # the columns of labelled rows
        labelled = _Echo.read(Dataset.from_list([{**row, "label": 0}]), Columns())
        assert labelled.inputs == [item]
        assert (labelled.columns.text, labelled.columns.pair) == (*wanted, None)[:2]


class _Echo:
    """Text classification whose tokenizer is left out."""

    @staticmethod
    def read(rows, columns):
        from optkit.data.examples import EncodedSet
        from optkit.tasks.text_classification import TextClassification

        task = TextClassification(["a", "b"], "single_label_classification", "accuracy", None)  # type: ignore[arg-type]
        task.encode = lambda inputs: EncodedSet({}, {})  # type: ignore[method-assign]
        return task.read(rows, columns)


def test_words_come_before_a_text_and_a_text_does_without_labels():
    task = task_type("token-classification")
    assert task.input_columns(["text", "tokens"]) == ("tokens",)
    assert task.input_columns(["review"]) == ("review",)
    with pytest.raises(DataError, match="word list"):
        task.column(["review"], "text")


@pytest.mark.parametrize("name", ["token-classification", "image-classification", "causal-lm"])
def test_a_second_text_that_a_task_has_no_use_for_is_refused(name):
    task: type[Task] = task_type(name)
    known = task.columns["text"][0]
    for call in (lambda w: task.input_columns([known, "x"], w), lambda w: task.column([known], "text", w)):
        with pytest.raises(RecipeError, match="leave --pair-column x out"):
            call(Columns(pair="x"))
    with pytest.raises(RecipeError, match="--pair-column"):
        task_type("embeddings").input_columns(["text", "x"], Columns(pair="x"))


def test_a_named_column_wins_and_a_wrong_name_is_told():
    task = task_type("text-classification")
    assert task.input_columns(["text", "body", "x"], Columns("body", "x")) == ("body", "x")
    with pytest.raises(DataError, match="'bodi'"):
        task.input_columns(["text", "body"], Columns("bodi"))
    assert task_type("question-answering").input_columns(["q", "context"], Columns("q")) == ("q", "context")
    with pytest.raises(DataError, match="context"):
        task_type("question-answering").input_columns(["question"])


def test_the_page_of_data_has_every_name():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert columns_table() in page


def columns_table() -> str:
    """The table of docs/data.md."""
    lines = ["| task | text | second text | label |", "| --- | --- | --- | --- |"]
    for name in TASKS:
        task = task_type(name)
        cells = [_listed(task.columns.get(part, ())) for part in ("text", "pair", "label")]
        if plain := task.columns.get("plain"):
            cells[0] += f"; where no label is needed also {_listed(plain)}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(names):
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names)) or "–"
