"""`optkit predict --input FILE --output FILE`: in order, at constant memory, the same after a kill."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import DataError, OutputError, RecipeError
from optkit.events import Note
from optkit.serving import inputs, offline
from optkit.serving.offline import Job, predict_file
from optkit.serving.predictor import load
from tests.serving.artifacts import artifact

ROWS = [{"id": i, "text": f"a {'fine ' * (i % 7)}film" if i % 5 else "dull"} for i in range(53)]
needs_arrow = pytest.mark.skipif(not find_spec("pyarrow"), reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def job(model, source, output, **fields):
    return Job(str(model), str(source), str(output), **{"chunk": 10, **fields})


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_row_is_answered_in_order(model, source, tmp_path):
    done = predict_file(job(model, source, tmp_path / "out.jsonl", keep=("id",)))
    assert (done.rows, done.answered) == (53, 53)
    found = lines(tmp_path / "out.jsonl")
    assert [row["row"] for row in found] == [row["id"] for row in found] == list(range(53))
    with load(model) as predictor:
        expected = predictor.predict([row["text"] for row in ROWS])
    assert [row["label"] for row in found] == [answer.label for answer in expected]
    assert [row["score"] for row in found] == pytest.approx([a.score for a in expected], abs=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(
    "names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("text", "text_pair"), ("text", "other")]
)
def test_a_second_text_is_found_by_its_name(model, tmp_path, names):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(dict(zip(names, ("a fine film", "dull")))) + "\n" + '"a fine film\\tdull"\n')
    predict_file(job(model, source, tmp_path / "out.jsonl", keep=()))
    by_name, by_tab = lines(tmp_path / "out.jsonl")
    with load(model) as predictor:
        pair, alone = predictor.predict([("a fine film", "dull"), "a fine film"])
    assert by_tab["scores"] == pytest.approx(pair.scores, abs=1e-6)
    expected = alone if names[1] == "other" else pair
    assert by_name["scores"] == pytest.approx(expected.scores, abs=1e-6)
    assert [name for name in names if name in by_name] == list(names[: 1 if names[1] == "other" else 2])


@needs_arrow
def test_parquet_in_and_out_says_the_same(model, source, tmp_path):
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "in.parquet", row_group_size=17)
    predict_file(job(model, source, tmp_path / "a.parquet", keep=("id",)))
    predict_file(job(model, tmp_path / "in.parquet", tmp_path / "b.parquet", keep=("id",)))
    a, b = (parquet.read_table(tmp_path / f"{n}.parquet") for n in "ab")
    assert a.equals(b)
    assert a.column_names == ["row", "id", "label", "score", "scores"]
    assert a["row"].to_pylist() == list(range(53))
    assert str(a.schema.field("scores").type).startswith("map<string, double")


@pytest.mark.parametrize("suffix", ["jsonl", pytest.param("parquet", marks=needs_arrow)])
def test_a_run_that_stopped_goes_on_and_gives_the_same_bytes(model, source, tmp_path, monkeypatch, suffix):
    whole, halted = tmp_path / f"whole.{suffix}", tmp_path / f"halted.{suffix}"
    predict_file(job(model, source, whole))
    answer, count = offline.answer_chunk, []

    def dies(*arguments):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return answer(*arguments)

    monkeypatch.setattr(offline, "answer_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        predict_file(job(model, source, halted))
    assert not halted.exists()
    done = predict_file(job(model, source, halted))
    assert (done.rows, done.answered) == (53, 33)
    assert halted.read_bytes() == whole.read_bytes()


def test_a_kill_from_outside_loses_nothing(model, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("".join(f"a fine film {i}\n" for i in range(6000)))
    command = [sys.executable, "-m", "optkit", "predict", str(model), "--input", str(source)]
    command += ["--chunk", "25", "--output"]
    killed = tmp_path / "killed.jsonl"
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    parts = killed.with_name(f".{killed.name}.parts")
    while process.poll() is None and len(list(parts.glob("part-*"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    again = subprocess.run([*command, str(killed)], capture_output=True, text=True, check=True)
    assert "going on after" in again.stderr
    subprocess.run([*command, str(tmp_path / "whole.jsonl")], capture_output=True, check=True)
    assert killed.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_parts_of_another_input_or_model_are_not_used(model, source, tmp_path):
    out = tmp_path / "out.jsonl"
    mine = job(model, source, out)
    offline._prepare(mine)
    (mine.folder / "part-000000.jsonl").write_text("{}\n")
    source.write_text(source.read_text().replace("film", "plot"))
    assert predict_file(mine).answered == 53


def test_an_output_is_not_replaced_unasked(model, source, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        predict_file(job(model, source, out))
    assert out.read_text() == "mine"
    predict_file(job(model, source, out), force=True)
    assert len(lines(out)) == 53


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text": \n', "line 2"),
        ('{"body": "a"}\n', "Cannot tell which column holds the text; columns: body"),
        ("[1]\n", "line 1"),
        ('{"text": 3}\n', "row 1 .*received int"),
        ('{"text": "a"}\n{"text": "bad \\ud83d"}\n', "line 2 .*half of a surrogate pair"),
        ('{"text": "a"}\n\n{"text": ["a", "b", "c"]}\n', "Row 3 of .*: Expected"),
        ("", "empty"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(model, tmp_path, text, message):
    source = tmp_path / "in.jsonl"
    source.write_text(text)
    with pytest.raises(DataError, match=message):
        predict_file(job(model, source, tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_no_output_is_refused_before_any_work(model, source, tmp_path):
    with pytest.raises(RecipeError, match="out.csv"):
        predict_file(job(model, source, tmp_path / "out.csv"))
    with pytest.raises(RecipeError, match="a field 'label' of its own"):
        source.write_text('{"text": "a", "label": "b"}\n')
        predict_file(job(model, source, tmp_path / "out.jsonl", keep=("label",)))


@needs_arrow
def test_entities_and_vectors_have_columns_of_their_own(tmp_path):
    import pyarrow.parquet as parquet

    source = tmp_path / "in.txt"
    source.write_text("a fine film\n\ndull\n")
    for task, column, kind in (
        ("embeddings", "vector", "list<"),
        ("token-classification", "entities", "string"),
    ):
        model = artifact(tmp_path / task, task)
        out = tmp_path / f"{task}.parquet"
        predict_file(job(model, source, out))
        table = parquet.read_table(out)
        assert table["row"].to_pylist() == [0, 2]  # a blank line is no input
        assert column in table.column_names
        assert str(table.schema.field(column).type).startswith(kind)


@given(st.lists(st.text(alphabet="ab \u00e9", max_size=6), max_size=30), st.integers(1, 7), st.booleans())
def test_chunks_cover_every_line_once(tmp_path_factory, texts, size, ends):
    file = tmp_path_factory.mktemp("c") / "in.txt"
    file.write_bytes("\n".join(texts).encode() + (b"\n" if ends else b""))
    if not file.read_bytes():
        return
    chunks = inputs.plan(file, size)
    found = [text for chunk in chunks for _, text in inputs.read(file, chunk)]
    assert found == [line for line in file.read_bytes().decode().split("\n") if line.strip()]
    assert all(a.first + a.rows == b.first for a, b in itertools.pairwise(chunks))


def test_a_large_file_is_cut_without_reading_it_into_memory(tmp_path, monkeypatch):
    file = tmp_path / "in.txt"
    file.write_text("x" * 999 + "\n", newline="\n")
    with file.open("ab") as stream:
        for _ in range(3000):
            stream.write(b"y" * 999 + b"\n")
    chunks = inputs.plan(file, 1000)  # blocks of 1 MiB end inside of lines
    assert [c.rows for c in chunks] == [1000, 1000, 1000, 1]
    assert inputs.read(file, chunks[-1]) == [(3000, "y" * 999)]


@needs_arrow
def test_columns_that_are_kept_arrive_as_they_were(model, tmp_path):
    """A null in the first row decides no kind, and what JSON lacks becomes text."""
    import pyarrow
    from pyarrow import parquet

    columns = {
        "text": ["a film", "dull"],
        "kind": [None, "abc"],
        "when": [date(2026, 1, 2), None],
        "price": [Decimal("1.50"), Decimal(2)],
    }
    source = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table(columns), source)
    for name in ("out.parquet", "out.jsonl"):
        predict_file(job(model, source, tmp_path / name, keep=("kind", "when", "price")))
    for found in (parquet.read_table(tmp_path / "out.parquet").to_pylist(), lines(tmp_path / "out.jsonl")):
        assert [row["kind"] for row in found] == [None, "abc"]
        assert [row["when"] for row in found] == ["2026-01-02", None]
        assert [row["price"] for row in found] == ["1.50", "2.00"]
    parquet.write_table(pyarrow.table({**columns, "raw": [b"1", b"2"]}), source)
    with pytest.raises(RecipeError, match="one of bytes"):
        predict_file(job(model, source, tmp_path / "raw.jsonl", keep=("raw",)))


@needs_arrow
def test_what_is_no_parquet_is_said(model, tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"text\n")
    with pytest.raises(DataError, match="as Parquet"):
        predict_file(job(model, tmp_path / "in.parquet", tmp_path / "out.jsonl"))


def test_an_error_on_ray_is_the_one_from_here(model, source, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    source.write_text(source.read_text() + '{"text": 3}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="row 54 .*received int"):
        predict_file(Job(str(model), "in.jsonl", "out.jsonl", chunk=10, threads=1), ray=True)


def test_ray_gives_the_same_bytes(model, source, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    predict_file(job(model, source, here, threads=1))
    assert predict_file(job(model, source, there, threads=1), ray=True).answered == 53
    assert here.read_bytes() == there.read_bytes()


def test_without_ray_the_extra_is_named(model, source, tmp_path, monkeypatch):
    from optkit.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency) as raised:
        predict_file(job(model, source, tmp_path / "out.jsonl"), ray=True)
    assert "optkit[ray]" in raised.value.hint


@needs_arrow
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([None, 3], [None, 3]),
        ([{"a": 1}, {"b": [2]}], ['{"a": 1}', '{"b": [2]}']),
        ([[0.1], [1]], ["[0.1]", "[1]"]),
        ([2**53 + 1, 7], [2**53 + 1, 7]),
        ([1, "x"], None),
        ([True, 1], None),
        ([2**53 + 1, 0.5], None),
        ([10**30, 1], None),
    ],
)
@pytest.mark.parametrize("chunk", [1, 10])
def test_kept_columns_have_the_kind_of_all_rows(model, tmp_path, values, expected, chunk):
    import pyarrow.parquet as parquet

    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text("".join(json.dumps({"text": "a film", "id": value}) + "\n" for value in values))
    if expected is None:
        with pytest.raises(DataError, match="--keep|column 'id'"):
            predict_file(job(model, source, out, keep=("id",), chunk=chunk))
        assert not out.exists()
        return
    predict_file(job(model, source, out, keep=("id",), chunk=chunk))
    assert parquet.read_table(out)["id"].to_pylist() == expected


@pytest.mark.parametrize(
    "row", [{"question": "a film"}, {"utterance": "a film"}, {"content": "x", "sentence1": "a film"}]
)
def test_predict_reads_the_columns_that_compress_reads(model, tmp_path, row):
    from datasets import Dataset

    from optkit.core.artifact import Artifact
    from optkit.tasks.base import Columns, open_task

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(row) + "\n")
    predict_file(job(model, source, out))
    task = open_task(Artifact.open(model))
    labelled = task.read(Dataset.from_list([{**row, "label": 0}]), Columns())
    (answer,) = lines(out)
    assert [answer[name] for name in row if name in answer] == labelled.inputs == ["a film"]


def test_every_row_is_read_by_the_columns_of_the_first(model, tmp_path):
    """As a table is: another command would read one column for all rows."""
    source, out, said = tmp_path / "in.jsonl", tmp_path / "out.jsonl", []
    rows = [{"id": 1, "sentence": "a film"}, {"sentence": "dull", "text": "a fine film"}]
    source.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match="read by 'sentence', as the first, received 'text' in row 2"):
        predict_file(job(model, source, out))
    assert not out.exists()
    predict_file(job(model, source, out, text_column="sentence"), events=said.append)
    assert [e.text for e in said if isinstance(e, Note)] == [f"reading 'sentence' of {source}"]
    assert [row["sentence"] for row in lines(out)] == ["a film", "dull"]


#: Rows of tasks whose inputs are several texts; what is said of those that cannot be answered.
SEVERAL = {
    "rerank": (
        [
            {"query": "who?", "documents": ["a film", "dull"]},
            {"query": "who?", "passages": {"passage_text": ["a film", "dull"], "is_selected": [0, 1]}},
        ],
        [
            ({"query": "who?", "documents": []}, "Row 2 .*Expected 1 to 1,000 candidates, received 0"),
            (
                {"query": "who?", "documents": ["a"] * 10_000},
                "Row 2 .*1 to 1,000 candidates, received 10,000",
            ),
            ({"query": "who?", "documents": None}, "row 2 .*received null"),
            ({"query": "who?"}, "Row 2 .*which column holds the candidates; columns: no other"),
            (
                {"query": "who?", "positive": "a", "negative": ["b"]},
                "Row 2 .*in one column, received positive",
            ),
            ("a single text", "Row 2 .*a query and candidates with a tab before each"),
        ],
    ),
    "multiple-choice": (
        [
            {"question": "who?", "choices": ["a film", "dull"]},
            {"question": "who?", "choices": ["a film", "dull"], "context": None},
            {"question": "who?", "choices": {"text": ["a film", "dull"], "label": ["A", "B"]}},
            {"question": "who?", "ending0": "a film", "ending1": "dull"},
        ],
        [
            ({"question": "who?", "choices": ["a"]}, "Row 2 .*Expected 2 to 1,000 choices, received 1"),
            ({"question": "who?", "choices": "a, b"}, "Row 2 .*Expected texts as the choices, in choices"),
        ],
    ),
    "zero-shot-classification": (
        [
            {"text": "a film", "candidate_labels": ["film", "cast"]},
            {"text": "a film", "candidate_labels": ["film", "cast"], "hypothesis_template": None},
            {"text": "a film", "candidate_labels": ["film", "cast"], "multi_label": None},
        ],
        [
            ({"text": "a", "candidate_labels": []}, "Row 2 .*1 to 1,000 candidate labels, received 0"),
            ({"text": "a", "candidate_labels": ["b"]}, "Row 2 .*at least two candidate labels, received one"),
            ({"text": "a"}, "Row 2 .*which column holds the candidate labels; columns: text"),
        ],
    ),
    "multi-vector-embeddings": ([{"query": "a film"}, {"document": "a film"}], [({"query": None}, "null")]),
}


@needs_arrow
@pytest.mark.parametrize("task", SEVERAL)
def test_rows_of_several_texts_are_answered_or_named(task, tmp_path):
    import pyarrow
    from pyarrow import parquet

    folder, good, bad = artifact(tmp_path / "m", task), *SEVERAL[task]
    with load(folder) as predictor:
        for i, row in enumerate(good):
            names = predictor.task.input_columns(list(row))
            [right] = predictor.predict([predictor.task.from_columns(row, names)])
            right = json.loads(json.dumps(predictor.task.describe(right)))
            table, file = tmp_path / f"{i}.parquet", tmp_path / f"{i}.jsonl"
            parquet.write_table(pyarrow.Table.from_pylist([row] * 3), table)
            file.write_text("".join(json.dumps(row) + "\n" for _ in range(3)))
            for source in (table, file):
                predict_file(job(folder, source, tmp_path / "out.jsonl"), force=True)
                for answer in lines(tmp_path / "out.jsonl"):
                    assert {name: answer[name] for name in right} == right
    for row, message in bad:
        source = tmp_path / "bad.jsonl"
        source.write_text(json.dumps(good[0]) + "\n" + json.dumps(row) + "\n")
        with pytest.raises(DataError, match=message):
            predict_file(job(folder, source, tmp_path / "no.jsonl"))
        assert not (tmp_path / "no.jsonl").exists()


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.json"])
def test_a_table_of_another_kind_says_how_it_becomes_one(model, tmp_path, name):
    (tmp_path / name).write_text("text\na film\n")
    with pytest.raises(DataError, match=r"\.jsonl, \.txt, \.parquet") as refused:
        predict_file(job(model, tmp_path / name, tmp_path / "out.jsonl"))
    assert "to_json('F.jsonl', orient='records', lines=True)" in refused.value.hint
