"""Files as tables: the bytes behind a name and no others, and nothing that could be read in two ways."""

import json
import os

import pytest

from optkit.data.dataset import Data
from optkit.data.tables.lines import BadRow
from optkit.data.tables.read import read
from optkit.errors import DataError
from optkit.preprocessing.load import rows as preprocess_rows
from optkit.serving import inputs

NAMES = ["run[1]", "a*b", "what?", "{x,y}", "!no", "50%25", " lead", "-dash", "a::b", "~", "日本", "zip:",
         "line\nend", "hf:", "s3:", "label=1", "$HOME", "a;b", "'q'", '"', "#1", "a@b", "\\"]  # fmt: skip


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def column_of(file, name="text"):
    return list(read([file])[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".json", ".parquet"])
def test_a_name_is_a_name(tmp_path, name, ending):
    import pandas

    frames = {}
    for folder, text in ((name, "mine"), ("run1", "other"), ("axb", "other"), ("x", "other")):
        file = tmp_path / folder / f"{folder}{ending}"
        file.parent.mkdir(exist_ok=True)
        frame = pandas.DataFrame({"text": [text], "label": [1]})
        if ending == ".parquet":
            frame.to_parquet(file)
        elif ending.startswith(".json"):
            file.write_text(json.dumps({"text": text, "label": 1}) + "\n")
        else:
            frame.to_csv(file, index=False, sep="\t" if ending == ".tsv" else ",")
        frames[folder] = file
    rows = Data(str(frames[name])).whole("all")
    assert rows.column_names == ["text", "label"]
    assert list(rows["text"]) == ["mine"]
    if ending in inputs.KINDS:
        chunks = inputs.plan(frames[name], 10)
        assert [row["text"] for _, row in inputs.read(frames[name], chunks[0])] == ["mine"]


def test_a_name_like_a_url_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file:" / "x" / "train.jsonl", '{"text": "mine"}\n')
    for name in ("file:/x", "file://x", "./file:/x", "~"):
        if name == "~":
            write(tmp_path / "~" / "train.jsonl", '{"text": "mine"}\n')
        assert list(Data(name).whole("train")["text"]) == ["mine"]


@pytest.mark.parametrize("images", ["[]", '["a.png"]', '[{"file_name": "a.png"}]'])
def test_rows_with_images_in_a_json_are_rows(images, tmp_path):
    """COCO's file is one object, in which the lists of what is on the images stand beside them."""
    file = write(tmp_path / "train.json", f'{{"text": "aaa", "images": {images}}}\n' * 2)
    assert column_of(file) == ["aaa", "aaa"]


def test_a_file_that_changed_in_place_is_read_again(tmp_path):
    file = write(tmp_path / "train.jsonl", '{"text": "aaa"}\n')
    before = file.stat()
    assert column_of(file) == ["aaa"]
    file.write_bytes(b'{"text": "bbb"}\n')
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(Data(str(tmp_path)).whole("train")["text"]) == ["bbb"]
    first = Data(str(tmp_path)).whole("train").map(lambda row: {"upper": row["text"].upper()})
    assert list(first["upper"]) == ["BBB"]


BROKEN = [
    (".csv", "text,label\na fine, fine film,1\nx, y,0\n", "line 2: expected 2 columns, received 3"),
    (".csv", "text,label\na,1,\nb,0,\n", "line 2: expected 2 columns, received 3"),
    (".csv", "text,label\na,1\nb\n", "line 3: expected 2 columns, received 1"),
    (".tsv", "text\tlabel\na\tb\t1\n", "line 2: expected 2 columns, received 3"),
    (".csv", "text,label\na,1\ntext,label\nb,0\n", "line 3: the names of the columns again"),
    (".tsv", "text\tlabel\na\t1\ntext\tlabel\n", "line 3: the names of the columns again"),
    (".csv", "text,text\na,1\n", "'text' names two columns"),
    (".csv", "text,,label\na,b,1\n", "column 2 has no name"),
    (".csv", b"text,label\na\0b,1\n", "line 2: a NUL byte"),
    (".csv", "text,label\na,1\n".encode("utf-16"), "not UTF-8 but UTF-16"),
    (".csv", "text,label\na,1\n".encode("utf-16-le"), "NUL byte"),
    (".jsonl", '{"text": "a"}\n'.encode("utf-16"), "not UTF-8 but UTF-16"),
    (".jsonl", '{"text": "a"}\n{"text": NaN}\n', "line 2: NaN is no finite number"),
    (".jsonl", '{"text": "a", "label": -Infinity}\n', "line 1: -Infinity is no finite number"),
    (".jsonl", '{"text": "a", "text": "b"}\n', "line 1: the key 'text' is given twice"),
    (
        ".jsonl",
        '{"text": "a", "n": 1}\n{"text": "b", "n": 99999999999999999999}\n',
        "values in column 'n'",
    ),
    (".jsonl", '{"text": "\\ud83d"}\n', "line 1: it holds half of a surrogate pair"),
    (".jsonl", '{"t\\udc00": "x"}\n', "line 1: it holds half of a surrogate pair"),
    (".jsonl", '{"tokens": ["a", "\\ud83d"]}\n', "line 1: it holds half of a surrogate pair"),
    (".jsonl", '[{"text": "a"}]\n', "line 1: expected an object, received a list"),
    (".jsonl", '{"text": "a"}\n\n{"text": 3}\n', "a text in line 1 and a number in line 3"),
    (".jsonl", '{"label": true}\n{"label": 1}\n', "true or false in line 1 and a number in line 2"),
    (".jsonl", '{"text": ' + "[" * 100_000 + "\n", "line 1: .*nested deeper"),
    (".json", '{"data": [{"title": "t"}]}', "Expected a list of objects"),
    (".json", "[1, 2]", "line 1: expected an object"),
    (".parquet", b"PAR1 and no more PAR1", "as Parquet"),
]


@pytest.mark.parametrize(("ending", "text", "message"), BROKEN)
def test_what_could_be_read_wrongly_is_refused_with_its_line(tmp_path, ending, text, message):
    file = write(tmp_path / f"x{ending}", text)
    with pytest.raises(DataError, match=f"(?s){message}"):
        read([file])
    if ending in (".csv", ".tsv", ".jsonl") and "column" not in message and "in line" not in message:
        with pytest.raises(DataError):
            bad = [row for _, row in preprocess_rows(file) if isinstance(row, BadRow)]
            raise DataError(str(bad[0]))


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".jsonl", '\ufeff{"text": "é", "label": 1}\r\n\r\n{"label": 2.5, "text": ""}'),
        (".json", '\ufeff[{"text": "é", "label": 1}, {"text": "", "label": 2.5}]'),
        (".json", '{"text": "é", "label": 1}\n{"text": "", "label": 2.5}\n'),
        (".csv", '\ufefftext,label\r\né,1\r\n\r\n"",2.5\r\n'),
        (".tsv", "\ufefftext\tlabel\r\né\t1\r\n\r\n\t2.5\r\n"),
    ],
)
def test_marks_line_ends_and_blank_lines_are_no_part_of_a_row(tmp_path, ending, text):
    rows = read([write(tmp_path / f"x{ending}", text)])
    assert list(rows["label"]) == [1.0, 2.5]
    assert [value or "" for value in rows["text"]] == ["é", ""]


def test_kinds_are_those_of_the_whole_column_over_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("optkit.data.tables.read._BATCH", 2)
    lines = [{"n": 1}, {"n": None, "tags": []}, {"n": 2.5, "tags": ["a"]}, {"more": {"x": 1}}]
    rows = read([write(tmp_path / "x.jsonl", "".join(json.dumps(line) + "\n" for line in lines))])
    assert list(rows["n"]) == [1.0, None, 2.5, None]
    assert list(rows["tags"]) == [None, [], ["a"], None]
    with pytest.raises(DataError, match="as one table"):
        read([write(tmp_path / "y.jsonl", '{"n": 1}\n{"n": 2}\n{"n": "x"}\n')])


def test_dates_in_json_stay_texts(tmp_path):
    file = write(tmp_path / "x.jsonl", '{"text": "2024-01-31"}\n{"text": "2024-02-01 10:00:00"}\n')
    assert column_of(file) == ["2024-01-31", "2024-02-01 10:00:00"]


def test_parquet_keeps_classes_categories_and_images_of_bytes(tmp_path):
    import datasets
    import pandas
    import pyarrow

    rows = datasets.Dataset.from_dict(
        {"text": ["a", "b"], "label": [0, 1]},
        features=datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
        ),
    )
    rows.to_parquet(tmp_path / "x.parquet")
    assert read([tmp_path / "x.parquet"]).features["label"].names == ["no", "yes"]
    frame = pandas.DataFrame({"text": ["a", "b"], "label": pandas.Categorical(["no", "yes"])})
    frame.to_parquet(tmp_path / "y.parquet")
    assert column_of(tmp_path / "y.parquet", "label") == ["no", "yes"]
    broken = pyarrow.table({"text": pyarrow.array([b"\xff"]).view(pyarrow.string())})
    import pyarrow.parquet

    pyarrow.parquet.write_table(broken, tmp_path / "z.parquet")
    with pytest.raises(DataError, match="as Parquet"):
        read([tmp_path / "z.parquet"])
