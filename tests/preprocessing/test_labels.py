"""Labels: named where they are missing, counted, and written as numbers."""

import json

import pytest

from optkit.errors import DataError
from optkit.preprocessing.run import preprocess
from optkit.preprocessing.settings import Settings

WHOLE = (1.0, 0.0, 0.0)


def prepared(folder, rows, name="out", **settings):
    """The report on these rows, and the rows of train that come of them."""
    file = folder / "raw.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = preprocess(file, folder / name, Settings(**{"shares": WHOLE, **settings}))
    lines = (folder / name / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return report, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("settings", "flag"), [({"encode_labels": True}, "--encode-labels"), ({"stratify": True}, "--stratify")]
)
def test_a_flag_that_needs_labels_names_the_columns_where_there_are_none(tmp_path, settings, flag):
    rows = [{"text": "x", "intent": "a"}, {"text": "y", "intent": "b"}]
    with pytest.raises(DataError, match=f"column 'label' for {flag}, .*columns: text, intent") as caught:
        prepared(tmp_path, rows, **settings)
    assert "--label-column" in caught.value.hint
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=f"for {flag}, received --no-label"):
        Settings(label=None, **settings)


def test_rows_without_a_label_are_kept_and_counted(tmp_path):
    rows = [{"text": str(i), "label": label} for i, label in enumerate(["b", None, "a"])]
    report, found = prepared(tmp_path, rows, encode_labels=True)
    assert report["rows_without_label"] == {"train": 1}
    assert [row["label"] for row in found] == [1, None, 0]


def test_none_is_a_name_as_any_other(tmp_path):
    rows = [{"text": str(i), "label": label} for i, label in enumerate(["None", None, "a"])]
    _, found = prepared(tmp_path, rows, encode_labels=True)
    assert [row["label"] for row in found] == [0, None, 1]
    assert json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8")) == ["None", "a"]
