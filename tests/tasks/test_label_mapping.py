"""Which label of the model a value of the data is: by name, else by place, and never a guess."""

import csv
import json

import numpy as np
import pytest

from optkit.data.columns import class_names
from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.tasks.label_mapping import disagreement, matched, number, places

TRUTH = ["true", "false"]


def read(values, labels, **options):
    return places(enumerate(values), labels, **options)


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([True, False], TRUTH, [0, 1]),
        ([np.True_, np.False_], ["True", "False"], [0, 1]),
        (["True", " FALSE "], TRUTH, [0, 1]),
        ([True, False], ["yes", "no"], [0, 1]),
        ([True, False], ["negative", "positive"], [1, 0]),
        (["true", "false"], ["negative", "positive"], [1, 0]),
        ([True, False], ["0", "1"], [1, 0]),
        ([0, 1], TRUTH, [0, 1]),
        ([1, 2, 3], ["3", "2", "1"], [2, 1, 0]),
        ([1.0, 3.0], ["3", "2", "1"], [2, 0]),
        (["1", "1.0", "01"], ["2", "1"], [1, 1, 1]),
        (["1", "0"], ["1", "0"], [0, 1]),
        ([np.int64(1), np.int8(0)], ["LABEL_0", "LABEL_1"], [1, 0]),
        ([np.float32(1), np.float64(0)], ["LABEL_0", "LABEL_1"], [1, 0]),
        (["LABEL_1", "label_0"], ["LABEL_0", "LABEL_1"], [1, 0]),
        ([1.0, 0.0], ["negative", "positive"], [1, 0]),
        ([True, True], ["0", "1"], [1, 1]),
        (["1", "0"], ["LABEL_0", "LABEL_1"], [1, 0]),
        ([" Positive ", "NEGATIVE"], ["negative", "positive"], [1, 0]),
        (["positive", "Positive"], ["Positive", "positive"], [1, 0]),
        (["cafe\u0301"], ["x", "caf\u00e9"], [1]),
    ],
)
def test_a_value_is_its_name_else_its_place(values, labels, expected):
    assert read(values, labels) == expected


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        ([0, 1], ["1", "0"], "'1' as a place.*|'1' by name.*"),
        ([1, 2], ["1", "2", "3"], "'1' by name, and '2' as a place"),
        ([True, False], ["1", "0"], "by name, and"),
        ([0, 1, 2], ["1", "2", "3"], "all labels by name or all by number"),
        (["a", "1"], ["a", "b"], "all labels by name or all by number"),
        (["POSITIVE"], ["Positive", "positive"], "Cannot tell which of the model's labels 'POSITIVE'"),
        (["a"], ["a", "a"], "Cannot tell"),
        ([None], TRUTH, "The label None in row 0 is unknown"),
        (["a", float("nan")], ["a", "b"], "nan in row 1"),
        ([[1]], TRUTH, "in row 0"),
        ([True], ["a", "b", "c"], "True in row 0"),
        (["x"], TRUTH, "unknown to the model, which has: true, false"),
        ([-1], TRUTH, "unknown"),
        (["-1"], TRUTH, "unknown"),
        ([0, -1], TRUTH, "-1 in row 1"),
        ([1.0, 0.0], ["1", "0"], "as a place"),
        (["LABEL_1"], ["negative", "positive"], "'LABEL_1' in row 0 is unknown"),
        ([2], ["negative", "positive"], "2 in row 0 is unknown"),
        ([1.5], TRUTH, "unknown"),
        (["²"], ["a", "b", "c"], "unknown"),
    ],
)
def test_what_could_be_two_labels_or_is_none_is_refused(values, labels, message):
    with pytest.raises(DataError, match=message):
        read(values, labels)


def test_labels_taken_from_the_data_itself_are_names():
    assert read([1, 2], ["1", "2", "3"], by_name=True) == [0, 1]
    with pytest.raises(DataError, match="unknown"):
        read([0], ["1", "2"], by_name=True)


def test_numbers_with_names_stand_for_them():
    assert read([0, 1], ["good", "bad"], names=["Bad", "GOOD"]) == [1, 0]
    assert read([0, 1], ["LABEL_0", "LABEL_1"], names=["bad", "good"]) == [0, 1]
    with pytest.raises(DataError, match="'neutral' in row 0"):
        read([2], ["good", "bad"], names=["bad", "good", "neutral"])
    with pytest.raises(DataError, match="-1 in row 0"):
        read([-1], ["good", "bad"], names=["bad", "good"])
    with pytest.raises(DataError, match="Cannot tell"):
        matched(["GOOD"], ["good", "Good"])


def test_no_label_says_so():
    for value in (-1, "-1", -1.0):
        with pytest.raises(DataError) as raised:
            read([value], TRUTH)
        assert "take a split that has labels" in raised.value.hint


def test_label2id_that_says_otherwise_than_id2label_is_named():
    names = {"id2label": {"0": "no", "1": "yes"}}
    assert disagreement(names) is None
    assert disagreement({**names, "label2id": {"no": 0, "yes": 1}}) is None
    found = disagreement({**names, "label2id": {"no": 1, "yes": 0}})
    assert "label2id has 'no' at 1, id2label has 'yes' there" in found
    assert "'maybe' at 2" in disagreement({**names, "label2id": {"no": 0, "yes": 1, "maybe": 2}})


@pytest.mark.parametrize("keys", [("0", "1"), ("1", "0")])
def test_labels_stand_in_the_order_of_their_numbers(keys, make_checkpoint, tmp_path):
    import shutil

    from optkit.core.artifact import Artifact
    from optkit.tasks.base import open_task

    folder = shutil.copytree(make_checkpoint("bert"), tmp_path / "m")
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["id2label"] = {key: {"0": "no", "1": "yes"}[key] for key in keys}
    file.write_text(json.dumps(config))
    assert open_task(Artifact.open(folder)).labels == ["no", "yes"]


def test_numbers_as_text():
    found = [
        number(x) for x in ("0.5", " 1 ", "-2e3", 3, np.float32(0.5), "nan", "1_0", "1e999", True, None, "")
    ]
    assert found == [0.5, 1, -2000, 3, 0.5, None, None, None, None, None, None]


@pytest.mark.parametrize(
    "values", [[True, False, True], [0, 1, 1], ["true", "false", "true"], ["B ", "a", "A"]]
)
@pytest.mark.parametrize("labels", [TRUTH, ["a", "b"]])
def test_the_same_values_are_the_same_labels_in_every_format(tmp_path, values, labels):
    import pandas

    words = [str(v).lower() if isinstance(v, bool) else v for v in values]
    for ending, mark in ((".csv", ","), (".tsv", "\t")):
        with (tmp_path / f"x{ending}").open("w", newline="") as file:
            csv.writer(file, delimiter=mark).writerows([("text", "label"), *(("x", w) for w in words)])
    rows = [{"text": "x", "label": v} for v in values]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pandas.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    found = []
    for ending in (".csv", ".tsv", ".jsonl", ".parquet"):
        table = Data(str(tmp_path / f"x{ending}")).whole("all")
        try:
            found.append(read(table["label"], labels, names=class_names(table.features["label"])))
        except DataError:
            found.append(None)
    assert found == [found[0]] * 4
