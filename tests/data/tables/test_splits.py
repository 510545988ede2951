"""Which files make a split: all rows, or a refusal that names the file that would be left out."""

import os

import pytest

from optkit.data.dataset import Data
from optkit.data.tables.splits import regular, split_files
from optkit.errors import DataError

ENDINGS = (".jsonl", ".csv")


def made(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "x", "label": 1}\n')
    return folder


def found(folder):
    return {
        split: [file.relative_to(folder).as_posix() for file in files]
        for split, files in split_files(folder, ENDINGS).items()
    }


@pytest.mark.parametrize(
    "names",
    [
        ["train.jsonl"],
        ["Train.jsonl"],
        ["training.csv"],
        ["train-1.jsonl", "train-2.jsonl", "train-10.jsonl"],
        ["train_1.jsonl", "train_2.jsonl"],
        ["train.part1.jsonl", "train.part2.jsonl"],
        ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"],
        ["train-1-of-2.jsonl", "train-2-of-2.jsonl"],
        ["train/a.jsonl", "train/b.jsonl"],
        ["train/0000.csv"],
        ["data/train-00000-of-00001.jsonl"],
        ["data/train/x.jsonl"],
    ],
)
def test_all_files_of_a_split_are_read_in_order(tmp_path, names):
    assert found(made(tmp_path, *names, "notes.txt", "README.md", "trainer_state.json")) == {"train": names}


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train.jsonl", "train_2.jsonl"], "train_2.jsonl"),
        (["train.jsonl", "train.csv"], "train.csv"),
        (["train.jsonl", "training.jsonl"], "training.jsonl"),
        (["dev.jsonl", "validation.jsonl"], "dev.jsonl"),
        (["train.jsonl", "train (1).jsonl"], r"train \(1\).jsonl"),
        (["train.jsonl", "train copy.jsonl"], "train copy.jsonl"),
        (["train-1.jsonl", "train_1.jsonl"], "train_1.jsonl"),
        (["train-1.jsonl", "train-2.csv"], "train-2.csv"),
        (["train-1.jsonl", "train-2.jsonl.gz"], "train-2.jsonl.gz"),
        (["train.jsonl", "train.part1"], "train.part1"),
        (["train.txt"], "train.txt"),
        (["train-00000-of-00002.jsonl"], "train-00000-of-00002.jsonl"),
        (["train-00000-of-00002.jsonl", "train-00001-of-00003.jsonl"], "00003"),
        (["train-00000-of-00001.jsonl", "train.jsonl"], "train.jsonl"),
        (["train.jsonl", "eval.jsonl"], "eval.jsonl"),
        (["train.jsonl", "validation_matched.jsonl"], "validation_matched.jsonl"),
        (["train.jsonl", "sst2-test.jsonl"], "sst2-test.jsonl"),
        (["train.jsonl", "train/a.jsonl"], "train'"),
        (["train/a.jsonl", "train/deeper/b.jsonl"], "deeper"),
        (["train/a.jsonl", "train/b.csv"], "b.csv"),
        (["train/a.jsonl", "train/b.jsonl.gz"], "b.jsonl.gz"),
        (["train.jsonl", "data/train.jsonl"], "data"),
        (["train.jsonl", "test/cat/x.png"], "test"),
    ],
)
def test_never_half_a_split(tmp_path, names, named):
    with pytest.raises(DataError, match=named):
        split_files(made(tmp_path, *names), ENDINGS)


def test_other_data_beside_a_whole_split_is_left_alone(tmp_path):
    made(tmp_path, "train.jsonl", "train_phrases.jsonl", "validation.csv", "dev-v1.1.json", "labels.json")
    assert found(tmp_path) == {"train": ["train.jsonl"], "validation": ["validation.csv"]}


def test_shards_are_one_split_in_data(tmp_path):
    made(tmp_path, *(f"test-{i}.jsonl" for i in range(12)))
    assert len(Data(str(tmp_path)).split("test")) == 12


@pytest.mark.parametrize("name", ["train.jsonl", "data.jsonl"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    source = tmp_path if name.startswith("train") else tmp_path / name
    with pytest.raises(DataError, match="received a pipe"):
        Data(str(source)).whole("train" if name.startswith("train") else "all")
    with pytest.raises(DataError, match="or device"):
        regular(type(tmp_path)("/dev/null"))


def test_a_name_that_no_system_takes(tmp_path):
    with pytest.raises(DataError, match="name too long"):
        Data("x" * 300).split("train")
    with pytest.raises(DataError, match="does not exist"):
        Data(str(tmp_path / "a\0b")).split("train")
