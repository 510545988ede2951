from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optkit.core import output
from optkit.core.files import write_json
from optkit.core.output import check_free, claimed, claimed_file, staged
from optkit.errors import (
    CheckpointError,
    DataError,
    Interrupted,
    MissingDependency,
    OutputError,
    PassError,
    RecipeError,
    WorkerError,
)


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
    check_free(tmp_path, force=True, reads=(None, "owner/name", tmp_path.parent))
    for kept in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(OutputError, match="which this command reads"):
            check_free(tmp_path, force=True, reads=[kept])


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
    check_free(link, force=True, reads=[link])
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


def test_what_a_killed_command_left_is_deleted_by_the_next(tmp_path):
    """Whatever number it had: in containers numbers come again."""
    for process in (4_194_000, os.getppid(), os.getpid()):
        (tmp_path / f".out.partial-{process}").mkdir()
    (tmp_path / ".out.held").write_text("1")
    with staged(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("there", [True, False])
def test_a_kill_between_two_renames_is_repaired(there, tmp_path):
    """The old folder comes back where the new one is not in place, and goes where it is."""
    old, out = tmp_path / ".out.old-4194000", tmp_path / "out"
    for folder, text in ((old, "old"), *([(out, "new")] if there else [])):
        folder.mkdir()
        (folder / "file").write_text(text)
    with pytest.raises(OutputError, match="exists"), claimed(out):
        pass
    assert os.listdir(tmp_path) == ["out"]
    assert (out / "file").read_text() == ("new" if there else "old")


@pytest.mark.parametrize("exchange", [True, False])
def test_force_works_where_names_can_not_be_exchanged_too(exchange, tmp_path, monkeypatch):
    if not exchange:
        monkeypatch.setattr(output, "_exchange", lambda a, b: False)
    (tmp_path / "out").mkdir()
    write_json(tmp_path / "out" / "report.json", {"schema": "optkit.report/1"})
    with staged(tmp_path / "out", force=True) as folder:
        (folder / "new").write_text("y")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["new"]


HOLDER = """
import sys, time
from optkit.core.output import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the output `tmp_path / "out"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_command_is_told_who_writes(holder, tmp_path):
    for use in (claimed, staged, claimed_file):
        with pytest.raises(OutputError, match=f"process {holder.pid}"), use(tmp_path / "out"):
            pass
    with claimed(tmp_path / "out", shared=True):
        pass
    holder.kill()
    holder.wait()
    with claimed(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [RecipeError, CheckpointError, DataError, MissingDependency])
def test_a_refusal_leaves_nothing_new(error, tmp_path):
    (tmp_path / ".out.parts").mkdir()
    with pytest.raises(error), claimed(tmp_path / "a" / "b" / "out", leaves=[tmp_path / "out.study"]) as out:
        (out.parent / ".out.work").mkdir()
        (out.parent / ".out.file").touch()
        (tmp_path / "out.study").mkdir()
        raise error("no")
    assert os.listdir(tmp_path) == [".out.parts"]


@pytest.mark.parametrize("error", [WorkerError, PassError, OutputError, Interrupted])
def test_what_broke_or_was_interrupted_is_left_for_the_next_run(error, tmp_path):
    with pytest.raises(error), claimed(tmp_path / "out"):
        (tmp_path / ".out.work").mkdir()
        raise error("no")
    assert os.listdir(tmp_path) == [".out.work"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"), claimed(tmp_path / "out"):
        pytest.fail("the work began")


@pytest.mark.parametrize("use", [claimed, claimed_file])
def test_an_output_below_a_file_is_refused_before_the_work(use, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Could not write"), use(tmp_path / "file" / "out"):
        pytest.fail("the work began")


@pytest.mark.parametrize("name", ["x" * 221, "ä" * 111, "a/" + "x" * 300, "x" * 300 + "/a", "a\0b"])
def test_names_that_no_file_can_have_are_refused(name, tmp_path):
    for use in (claimed, claimed_file):
        with pytest.raises(OutputError), use(tmp_path / name):
            pytest.fail("the work began")
    assert os.listdir(tmp_path) == []


def test_an_artifact_gets_no_output_inside_of_it(tmp_path):
    (tmp_path / "model").mkdir()
    write_json(tmp_path / "model" / "optkit.json", {"schema": "optkit.artifact/1"})
    with pytest.raises(OutputError, match="outside of the model"):
        check_free(tmp_path / "model" / "new", reads=[tmp_path / "model"])
    with (
        pytest.raises(OutputError, match="outside of the model"),
        claimed_file(tmp_path / "model" / "a.jsonl", reads=[tmp_path / "model"]),
    ):
        pass


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_file_is_never_written_onto_the_input(link, tmp_path):
    source = target = tmp_path / "in.jsonl"
    source.write_text("x")
    if link:
        target = tmp_path / "out.jsonl"
        link(source, target)
    with pytest.raises(OutputError, match="is what this command reads"):
        with claimed_file(target, force=True, reads=[source]):
            pass
    assert source.read_text() == "x"


def test_a_special_file_is_no_output(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/full")):
        with pytest.raises(OutputError, match="plain file"), claimed_file(path, force=True):
            pass


def test_a_full_disk_is_seen_before_the_work_and_leaves_no_lock(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left"), claimed(tmp_path / "out"):
        pytest.fail("the work began")
    assert os.listdir(tmp_path) == []
