"""Numbers in CSV: the same type that `datasets` gives the column, so that fine-tuning sees the same task."""

import json

import pytest

from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.preprocessing.run import preprocess

WHOLE = (1.0, 0.0, 0.0)


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize(
    "labels",
    [["0.5", "1", "-2e-3"], ["0", "1", "12"], ["1.0", "2.0", "3.0"], ["a", "1", "0.5"], ["0.5", "", "1.5"]],
)
def test_labels_have_the_type_that_datasets_gives_them(tmp_path, labels, ending):
    between = "," if ending == "csv" else "\t"
    lines = ["text,label", *(f"t{i},{label}" for i, label in enumerate(labels))]
    file = tmp_path / f"raw.{ending}"
    file.write_text("\n".join(lines).replace(",", between), encoding="utf-8")
    preprocess(file, tmp_path / "out", shares=WHOLE)
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line)["label"] for line in lines]
    wanted = list(Data(str(file)).whole("all")["label"])
    assert found == wanted
    assert [type(x) for x in found] == [type(x) for x in wanted]


def test_numbers_with_fractions_are_not_encoded(tmp_path):
    (tmp_path / "raw.csv").write_text("text,label\nx,0.5\ny,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="Expected classes for --encode-labels, received numbers with"):
        preprocess(tmp_path / "raw.csv", tmp_path / "out", encode_labels=True, shares=WHOLE)


def test_whole_numbers_are_encoded_by_size(tmp_path):
    rows = "".join(f"t{i},{i + 1}\n" for i in range(12))
    (tmp_path / "raw.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    preprocess(tmp_path / "raw.csv", tmp_path / "out", encode_labels=True, shares=WHOLE)
    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["label"] for line in lines] == list(range(12))
