from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optkit.errors import OutputError
from optkit.files import check_free, digest, staged, write_json


def test_nothing_is_left_when_the_block_fails(tmp_path):
    with pytest.raises(ValueError, match="boom"), staged(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise ValueError("boom")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_without_force(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")
    with pytest.raises(OutputError, match="exists"):
        check_free(tmp_path / "out")
    write_json(tmp_path / "out" / "optkit.json", {"schema": "optkit.artifact/1", "files": {"old": "0"}})
    with staged(tmp_path / "out", force=True) as folder:
        (folder / "new").write_text("y")
    assert os.listdir(tmp_path / "out") == ["new"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.txt", {}),
        ("report.json", {"totals": {}}),
        ("optkit.json", {"schema": "another/1"}),
        ("preprocessing.json", {}),
    ],
)
def test_force_replaces_no_folder_that_optkit_did_not_make(name, value, tmp_path):
    write_json(tmp_path / name, value)
    with pytest.raises(OutputError, match="Expected a folder that optkit made"):
        check_free(tmp_path, force=True)
    with pytest.raises(OutputError), staged(tmp_path, force=True):
        pass
    assert os.listdir(tmp_path) == [name]


def test_force_replaces_no_artifact_that_holds_something_else(tmp_path):
    write_json(tmp_path / "optkit.json", {"schema": "optkit.artifact/1", "files": {"model.onnx": "0"}})
    (tmp_path / "model.onnx").write_text("x")
    (tmp_path / "report.md").write_text("x")
    check_free(tmp_path, force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text("x")
    with pytest.raises(OutputError, match="holds 'other/report.json' too"):
        check_free(tmp_path, force=True)


def test_force_never_deletes_what_the_command_reads(tmp_path):
    write_json(tmp_path / "report.json", {"schema": "optkit.report/1"})
    check_free(tmp_path, force=True, keep=(None, "owner/name", tmp_path.parent))
    for kept in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(OutputError, match="which this command reads"):
            check_free(tmp_path, force=True, keep=[kept])


@pytest.mark.parametrize("target", ["v1", "empty", "gone"])
def test_a_link_gives_way_and_what_it_points_to_stays(target, tmp_path):
    """Whatever lies there, optkit's or not, for nothing of it is deleted."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "old").write_text("x")
    (tmp_path / "empty").mkdir()
    link = tmp_path / "current"
    link.symlink_to(target)
    with pytest.raises(OutputError, match="exists"):
        check_free(link)
    check_free(link, force=True, keep=[link])
    with staged(link, force=True) as folder:
        (folder / "new").write_text("y")
    assert not link.is_symlink()
    assert os.listdir(link) == ["new"]
    assert os.listdir(tmp_path / "v1") == ["old"]
    assert sorted(os.listdir(tmp_path)) == ["current", "empty", "v1"]


def test_what_was_there_comes_back_where_the_new_folder_cannot_take_its_place(tmp_path):
    (tmp_path / "out").mkdir()
    write_json(tmp_path / "out" / "report.json", {"schema": "optkit.report/1"})
    with pytest.raises(OutputError), staged(tmp_path / "out", force=True) as folder:
        folder.rmdir()
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["report.json"]


@pytest.mark.parametrize("name", [".", "", "..", "x/..", "/"])
def test_an_output_without_a_name_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for force in (False, True):
        with pytest.raises(OutputError, match="Expected the name of a folder"):
            check_free(Path(name), force)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="No space left"), staged(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_json_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}


def test_what_a_killed_process_left_is_deleted_by_the_next(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".out.partial-{process}").mkdir()
    with staged(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".out.partial-{os.getppid()}", "out"]


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}, 2) != digest({"a": 12})
