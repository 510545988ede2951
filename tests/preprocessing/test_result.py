"""The same command again: nothing to do, unless something that decides the result has changed."""

import json

import pytest

from optkit.errors import OutputError
from optkit.preprocessing import run
from optkit.preprocessing.run import preprocess


def raw(folder, more=""):
    rows = [{"text": f"text {i}{more}", "label": "ab"[i % 2]} for i in range(50)]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "raw.jsonl"


def test_the_same_again_does_nothing_and_says_so(tmp_path, monkeypatch, checkpoint):
    file, out, said = raw(tmp_path), tmp_path / "out", []
    settings = dict(encode_labels=True)
    report = preprocess(file, out, **settings, model=checkpoint)
    monkeypatch.setattr(run, "chunk", None)  # computing would fail
    again = preprocess(file, out, **settings, model=checkpoint, events=lambda event: said.append(event.name))
    assert again == report
    assert said == [f"{out} is up to date"]
    with pytest.raises(TypeError):
        preprocess(file, out, **settings, model=checkpoint, force=True)
    with pytest.raises(OutputError, match="exists"):  # the count of long texts is of a model
        preprocess(file, out, **settings)


@pytest.mark.parametrize("changed", ["source", "settings", "split", "labels", "added", "report", "lost"])
def test_what_has_changed_is_no_result_of_this_command(tmp_path, changed):
    file, out, settings = raw(tmp_path), tmp_path / "out", dict(encode_labels=True)
    preprocess(file, out, **settings)
    if changed == "source":
        raw(tmp_path, " more")
    elif changed == "settings":
        settings = dict(encode_labels=True, seed=1)
    elif changed == "added":
        (out / "other.jsonl").write_text("{}", encoding="utf-8")
    elif changed == "lost":
        (out / "test.jsonl").unlink()
    else:
        name = {"split": "train.jsonl", "labels": "labels.json", "report": "preprocessing.json"}[changed]
        (out / name).write_text("[]", encoding="utf-8")
    with pytest.raises(OutputError, match="exists"):
        preprocess(file, out, **settings)


def test_force_replaces_what_it_wrote_and_not_the_folder_of_its_source(tmp_path):
    preprocess(raw(tmp_path), tmp_path / "out")
    preprocess(raw(tmp_path, " more"), tmp_path / "out", force=True)
    assert " more" in (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="which this command reads"):
        preprocess(raw(tmp_path), tmp_path, force=True)
