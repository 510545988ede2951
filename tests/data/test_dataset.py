from __future__ import annotations

import json

import pytest

from optkit.data.dataset import Data
from optkit.errors import DataError
from tests.conftest import sentences, write_jsonl


def rows(count=10):
    return sentences(count)


def test_a_folder_of_splits(data):
    source = Data(str(data))
    assert sorted(source.splits) == ["test", "train", "validation"]
    assert len(source.split("validation")) == 40
    assert len(source.fingerprint("validation")) == 64


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "json"])
def test_every_format_reads_the_same(tmp_path, ending):
    import pandas

    frame = pandas.DataFrame(rows())
    file = tmp_path / f"train.{ending}"
    if ending == "parquet":
        frame.to_parquet(file)
    elif ending == "json":
        file.write_text(json.dumps(rows()))
    else:
        frame.to_csv(file, index=False, sep="\t" if ending == "tsv" else ",")
    found = Data(str(file))
    train, validation = found.split("train"), found.split("validation")
    assert sorted([*train["text"], *validation["text"]]) == sorted(r["text"] for r in rows())


def test_in_tsv_every_line_is_a_row(tmp_path):
    file = tmp_path / "dev.tsv"
    text = '"text"\tlabel\n"x\t1\n"a ""b"""\t"2"\nsay "w"\t\nz\u2028\t3\r\n\n'
    file.write_text(text, encoding="utf-8", newline="")
    rows = Data(str(tmp_path)).split("validation")
    assert list(rows["text"]) == ['"x', 'a "b"', 'say "w"', "z\u2028"]
    assert list(rows["label"]) == [1, 2, None, 3]
    file.write_text("text\tlabel\nx\t1\ny\n")
    with pytest.raises(DataError, match="corrupt line 3: expected 2 columns, received 1"):
        Data(str(tmp_path)).split("validation")
    file.write_text("text\tlabel\n")
    with pytest.raises(DataError, match="is empty"):
        Data(str(tmp_path)).split("validation")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_words_that_look_like_nothing_are_text(tmp_path, ending):
    words = ["NA", "None", "null", "n/a"]
    lines = [["text", "score", "count", "sure"], *([w, "0.5", "1", "True"] for w in words)]
    lines += [["", "NA", "", "False"]]
    between = "\t" if ending == "tsv" else ","
    (tmp_path / f"test.{ending}").write_text("".join(between.join(line) + "\n" for line in lines))
    rows = Data(str(tmp_path)).split("test")
    assert rows.column_names == lines[0]
    assert list(rows["text"]) == [*words, None]
    assert list(rows["score"]) == [0.5] * 4 + [None]  # among numbers NA is none
    assert list(rows["count"]) == [1] * 4 + [None]
    assert list(rows["sure"]) == [True] * 4 + [False]


def test_a_limit_draws_over_the_whole_split(tmp_path):
    write_jsonl(tmp_path / "test.jsonl", [{"text": "x", "label": i // 50} for i in range(100)])
    found = [list(Data(str(tmp_path)).split("test", 20)["label"]) for _ in range(2)]
    assert found[0] == found[1] == sorted(found[0])
    assert len(found[0]) == 20
    assert set(found[0]) == {0, 1}
    assert len(Data(str(tmp_path)).split("test", 100)) == 100


def test_one_row_cannot_be_divided(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows(1))
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="at least two rows.*received 1"):
            Data(str(tmp_path)).split(split)


def test_dev_is_validation_and_other_files_are_left_alone(tmp_path):
    write_jsonl(tmp_path / "dev.jsonl", rows(3))
    write_jsonl(tmp_path / "train.jsonl", rows(4))
    write_jsonl(tmp_path / "train_more.jsonl", rows(50))
    assert len(Data(str(tmp_path)).split("validation")) == 3
    assert len(Data(str(tmp_path)).split("train")) == 4


def test_a_missing_validation_split_is_held_out_of_train(tmp_path):
    many = [{"text": f"text {i}", "label": "x"} for i in range(50)]
    write_jsonl(tmp_path / "train.jsonl", many)
    source = Data(str(tmp_path))
    train, held_out = source.split("train"), source.split("validation")
    assert source.is_held_out("validation")
    assert (len(train), len(held_out)) == (45, 5)
    assert not set(train["text"]) & set(held_out["text"])
    assert held_out["text"] == Data(str(tmp_path)).split("validation")["text"]


def test_a_split_that_is_not_there(tmp_path):
    write_jsonl(tmp_path / "validation.jsonl", rows())
    with pytest.raises(DataError, match="Expected a split 'train'"):
        Data(str(tmp_path)).split("train")


def test_an_empty_split(tmp_path):
    (tmp_path / "validation.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        Data(str(tmp_path)).split("validation")


def test_text_that_is_not_utf8_names_file_and_line(tmp_path):
    (tmp_path / "validation.jsonl").write_bytes(b'{"text": "ok", "label": "x"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match="corrupt line 2: not UTF-8: byte 0xe9"):
        Data(str(tmp_path)).split("validation")


def test_a_corrupt_line_is_named(tmp_path):
    (tmp_path / "validation.jsonl").write_text('{"text": "ok", "label": "x"}\n{"text": \n')
    with pytest.raises(DataError, match="corrupt line 2"):
        Data(str(tmp_path)).split("validation")


def test_a_line_that_is_no_object_is_named(tmp_path):
    (tmp_path / "validation.jsonl").write_text('{"text": "ok"}\n\n["text"]\n')
    with pytest.raises(DataError, match="corrupt line 3: expected an object, received a list"):
        Data(str(tmp_path)).split("validation")


def test_a_folder_without_splits(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"train\.jsonl"):
        _ = Data(str(tmp_path)).splits


def test_an_unknown_ending(tmp_path):
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(DataError, match="ending in"):
        _ = Data(str(tmp_path / "data.xlsx")).splits


def test_a_name_that_is_neither_path_nor_data_set():
    with pytest.raises(DataError, match="hub data set"):
        _ = Data("no such/thing/here").splits


def test_numbers_whose_names_lie_beside_them_are_classes(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "x", "label": 1, "n": 7}, {"text": "y", "label": None}])
    names = tmp_path / "labels.json"
    names.write_text('{"label": ["bad", "good"], "text": ["x"], "other": "n"}', encoding="utf-8")
    rows = Data(str(tmp_path)).whole("train")
    assert rows.features["label"].names == ["bad", "good"]
    assert list(rows["label"]) == [1, None]
    names.write_text('{"label": ["bad"]}', encoding="utf-8")
    with pytest.raises(DataError, match="numbers below 1 in column 'label'.*received 1"):
        Data(str(tmp_path)).whole("train")


@pytest.mark.parametrize("text", ["{", "[1]", '{"label": 3}'])
def test_another_file_called_labels_json_changes_nothing(tmp_path, text):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "x", "label": 1}])
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    assert Data(str(tmp_path)).whole("train").features["label"].dtype == "int64"
