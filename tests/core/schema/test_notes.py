"""What a run left for the next one, damaged: an error about that file, with exit code 6."""

from __future__ import annotations

import json

import pytest

from optkit.core.output import check_free
from optkit.core.schema.notes import PeakMemory, Ranking, Study, left_by_a_run
from optkit.data.dataset import Data
from optkit.errors import DataError, OutputError
from optkit.training.tuning import page
from tests.conftest import write_jsonl

RANKING = {"ranked": [["a", 1.0], ["b", 2]], "saved_us": {"a": 3.5}}


def test_a_ranking_as_it_is_written(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(RANKING))
    assert left_by_a_run(Ranking, file).ranked == [["a", 1.0], ["b", 2.0]]


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Ranking, {**RANKING, "ranked": [["a"]]}),
        (Ranking, {**RANKING, "saved_us": {"a": "b"}}),
        (Ranking, {**RANKING, "saved_us": []}),
        (Ranking, {}),
        (PeakMemory, {"peak_rss_bytes": -1}),
        (PeakMemory, {"peak_rss_bytes": True}),
        (Study, {"trials": [1]}),
        (Study, {"trials": 5}),
        (Study, {"name": []}),
    ],
)
def test_damaged_notes(tmp_path, model, value):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(value))
    with pytest.raises(OutputError) as raised:
        left_by_a_run(model, file)
    assert "Delete it" in str(raised.value.hint)


def test_a_damaged_study_at_the_output(tmp_path):
    (tmp_path / "study.json").write_text('{"name": 5}')
    with pytest.raises(OutputError, match="name"):
        page.is_of(tmp_path, "x", "y")


@pytest.mark.parametrize("files", [5, ["a"], "a", None, [[]]])
def test_a_list_of_files_that_is_none(tmp_path, files):
    (tmp_path / "preprocessing.json").write_text(json.dumps({"key": "a", "files": files}))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        check_free(tmp_path, force=True)


@pytest.mark.parametrize("names", [["a", "a"], ["a", None], [["a"], "b"], [{}, "b"], ["a", 1.5]])
def test_names_of_classes_that_are_none(tmp_path, names):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "x", "label": 0}, {"text": "y", "label": 1}])
    (tmp_path / "labels.json").write_text(json.dumps({"label": names}))
    with pytest.raises(DataError, match="different names"):
        Data(str(tmp_path)).split("train")
