"""Labels: named where they are missing, counted, and written as numbers."""

import json

import pytest

from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.preprocessing.run import preprocess
from optkit.tasks.base import Columns
from optkit.tasks.text_classification import TASK

WHOLE = (1.0, 0.0, 0.0)


def prepared(folder, rows, name="out", **settings):
    """The report on these rows, and the rows of train that come of them."""
    file = folder / "raw.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = preprocess(file, folder / name, **{"shares": WHOLE, **settings})
    lines = (folder / name / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return report, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("settings", "flag"), [({"encode_labels": True}, "--encode-labels"), ({"stratify": True}, "--stratify")]
)
def test_a_flag_that_needs_labels_names_the_columns_where_there_are_none(tmp_path, settings, flag):
    rows = [{"text": "x", "mood": "a"}, {"text": "y", "mood": "b"}]
    with pytest.raises(DataError, match=f"column 'label' for {flag}, .*columns: text, mood") as caught:
        prepared(tmp_path, rows, **settings)
    assert "--label-column" in caught.value.hint
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=f"for {flag}, received --no-label"):
        prepared(tmp_path, rows, no_label=True, **settings)


def test_columns_are_found_by_the_names_that_finetune_looks_for(tmp_path):
    rows = [{"id": i, "utterance": f"text {i}", "intent": "ab"[i % 2], "answer": "yes"} for i in range(4)]
    report, found = prepared(tmp_path, rows, encode_labels=True)
    assert report.settings.text == "utterance"
    assert report.settings.label == "intent"
    assert [row["intent"] for row in found] == [0, 1, 0, 1]
    words = [{"words": ["one", "two"], "upos": ["NUM", "DET"]}, {"words": ["x"], "upos": ["NUM"]}]
    report, found = prepared(tmp_path, words, "words")
    assert found == [{"tokens": row["words"], "upos": row["upos"]} for row in words]
    assert report.labels == {"train": {"DET": 1, "NUM": 2}}


def test_rows_without_a_label_are_kept_and_counted(tmp_path):
    rows = [{"text": str(i), "label": label} for i, label in enumerate(["b", None, "a"])]
    report, found = prepared(tmp_path, rows, encode_labels=True)
    assert report.rows_without_label == {"train": 1}
    assert [row["label"] for row in found] == [1, None, 0]


def test_none_is_a_name_as_any_other(tmp_path):
    rows = [{"text": str(i), "label": label} for i, label in enumerate(["None", None, "a"])]
    _, found = prepared(tmp_path, rows, encode_labels=True)
    assert [row["label"] for row in found] == [0, None, 1]
    assert json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8")) == {
        "label": ["None", "a"]
    }


def test_fine_tuning_knows_the_names_of_encoded_labels(tmp_path):
    rows = [{"text": str(i), "kind": label} for i, label in enumerate(["bad", "fine", "good", "bad"])]
    prepared(tmp_path, rows, encode_labels=True, columns=Columns(label="kind"))
    columns, found = Columns(label="kind"), Data(str(tmp_path / "out")).whole("train")
    config = TASK.training_config(found, columns)
    assert list(config["id2label"].values()) == ["bad", "fine", "good"]
    assert found["kind"] == [0, 1, 2, 0]


def splits(folder, **rows):
    (folder / "in").mkdir()
    for split, found in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in found)
        (folder / "in" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder / "in"


def test_several_labels_count_one_by_one(tmp_path):
    train = [{"text": str(i), "label": x} for i, x in enumerate([["a", "b"], ["a"], ["c"], [], ["b", "a"]])]
    train.append({"text": "0", "label": ["b", "a"]})
    source = splits(tmp_path, train=train, test=[{"text": "x", "label": ["a", "c"]}])
    report = preprocess(source, tmp_path / "out")
    assert report.labels == {"test": {"a": 1, "c": 1}, "train": {"a": 4, "b": 3, "c": 1}}
    assert report.conflicting == 0
    assert report.rows_without_label == {}
    with pytest.raises(DataError, match="one label per row for --encode-labels, received a list"):
        preprocess(source, tmp_path / "encoded", encode_labels=True)
    assert not (tmp_path / "encoded").exists()


def test_stratify_gives_rare_labels_of_several_to_every_split(tmp_path):
    rows = [{"text": str(i), "label": ["a", f"b{i % 2}"] + ["rare"] * (i < 20)} for i in range(200)]
    report, _ = prepared(tmp_path, rows, stratify=True, shares=(0.8, 0.1, 0.1))
    assert [report.labels[split]["rare"] for split in ("train", "validation", "test")] == [16, 2, 2]


@pytest.mark.parametrize("name", ["ner_tags", "tags", "mine"])
def test_tags_are_labels_by_every_name_that_finetune_knows(tmp_path, name):
    train = [{"tokens": ["Ada", "ran"], name: ["B-x", "O"], "label": "kept"}]
    settings = dict(columns=Columns(label="mine")) if name == "mine" else dict()
    source = splits(tmp_path, train=train, test=[{"tokens": ["Ada", "B"], name: ["B-x", "I-x"]}])
    report = preprocess(source, tmp_path / "out", **settings)
    assert report.labels["train"] == {"B-x": 1, "O": 1}
    (source / "test.jsonl").write_text(json.dumps({"tokens": ["Ada"], name: ["B-zzz"]}), encoding="utf-8")
    with pytest.raises(DataError, match="labels that train lacks: B-zzz"):
        preprocess(source, tmp_path / "other", **settings)


def classes(folder, rows, words=False):
    import datasets

    names = datasets.ClassLabel(names=["O", "B-x", "I-x"])
    features = {"tokens": datasets.Sequence(datasets.Value("string"))} if words else {}
    features |= {"ner_tags": datasets.Sequence(names)} if words else {"text": datasets.Value("string")}
    features |= {} if words else {"label": names}
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(folder / "raw.parquet")
    return table


@pytest.mark.parametrize("kept", ["hub", "parquet"])
def test_classes_in_lists_come_as_names_and_are_checked(tmp_path, monkeypatch, kept):
    import datasets

    def source(tags):
        rows = [{"tokens": ["Ada", "B"], "ner_tags": tags}, {"tokens": ["ran"], "ner_tags": [0]}]
        table = classes(tmp_path, rows, words=True)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict({"train": table}))
        return "owner/name" if kept == "hub" else tmp_path / "raw.parquet"

    report = preprocess(source([1, 2]), tmp_path / "out", shares=WHOLE)
    assert report.labels == {"train": {"B-x": 1, "I-x": 1, "O": 1}}
    with pytest.raises(DataError, match="corrupt row 1: the tags are not valid BIO: 'I-x' at word 1"):
        preprocess(source([0, 2]), tmp_path / "bad", shares=WHOLE)


def test_minus_one_and_none_are_no_label_on_the_hub(tmp_path, monkeypatch):
    import datasets

    rows = [{"text": str(i), "label": label} for i, label in enumerate([0, 1, -1, None])]
    table = classes(tmp_path, rows)
    found = datasets.DatasetDict({"train": table.select([0, 1]), "test": table})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: found)
    report = preprocess("owner/name", tmp_path / "out")
    assert report.rows_without_label == {"test": 2}
    assert report.labels["test"] == {"B-x": 1, "O": 1}


def test_a_column_of_labels_that_is_named_and_absent(tmp_path):
    from optkit.preprocessing.run import preprocess

    (tmp_path / "a.jsonl").write_text('{"text": "a b"}\n{"text": "c d"}\n' * 20)
    with pytest.raises(DataError, match="column 'mood' .--label-column., received none"):
        preprocess(tmp_path / "a.jsonl", tmp_path / "out", columns=Columns(label="mood"))
    assert not (tmp_path / "out").exists()
    assert preprocess(
        tmp_path / "a.jsonl",
        tmp_path / "out",
    ).rows
