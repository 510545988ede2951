from __future__ import annotations

import json
from collections import Counter

import pytest

import optkit.compression.demo as module
from optkit.compression.demo_data import AREAS, write_docstrings
from optkit.core.artifact import MANIFEST
from optkit.core.files import write_json
from optkit.errors import MissingDependency, OutputError


def test_docstrings_are_labelled_text_in_three_disjoint_splits(tmp_path):
    counts = write_docstrings(tmp_path)
    assert counts["train"] > 1000
    texts: list[str] = []
    labels: Counter = Counter()
    for split, count in counts.items():
        rows = [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        assert len(rows) == count
        texts += [row["text"] for row in rows]
        labels.update(row["label"] for row in rows)
    assert len(set(texts)) == len(texts)
    assert set(labels) == set(AREAS)
    assert min(labels.values()) > 0.05 * len(texts)


def test_the_same_seed_gives_the_same_files(tmp_path):
    write_docstrings(tmp_path / "a")
    write_docstrings(tmp_path / "b")
    for split in ("train", "validation", "test"):
        name = f"{split}.jsonl"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("command", [None, "optkit compress x --int8"])
def test_the_demo_never_replaces_what_it_did_not_make(tmp_path, command):
    (tmp_path / "thesis.txt").write_text("ten years")
    if command:
        (tmp_path / "report.json").write_text(json.dumps({"command": command}))
    with pytest.raises(OutputError, match="holds something else"):
        module.demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "ten years"


@pytest.mark.parametrize("part", ["data", "fp32"])
def test_the_folders_beside_it_are_not_touched_either(tmp_path, part):
    theirs = tmp_path / f"x-{part}"
    theirs.mkdir()
    for split in ("train", "validation", "test"):
        (theirs / f"{split}.jsonl").write_text(json.dumps({"text": "mine", "label": "good"}))
    with pytest.raises(OutputError, match=f"x-{part}.*holds something else"):
        module.demo(tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == [f"x-{part}"]
    assert "mine" in (theirs / "train.jsonl").read_text()


def test_a_demo_that_was_cut_short_goes_on(tmp_path, monkeypatch):
    """The data and the checkpoint are used again, and the earlier result stays until there is a new one."""
    out, data, checkpoint = (tmp_path / name for name in ("x", "x-data", "x-fp32"))
    write_docstrings(data)
    for folder in (out, checkpoint):
        folder.mkdir()
    given = {"model": f"/site-packages/{module.ENCODER_PACKAGE}/model", "data": str(data)}
    write_json(checkpoint / MANIFEST, {"lineage": [{"pass": "finetune", "parameters": given}]})
    write_json(out / "report.json", {"command": module.COMMAND})
    calls = []

    def compress(source, recipe, **options):
        assert (out / "report.json").exists()
        calls.append((source, options["data"], options["out"], options["force"]))

    monkeypatch.setattr(module, "compress", compress)
    monkeypatch.setattr(module, "write_docstrings", None)
    monkeypatch.setattr(module, "Child", None)
    module.demo(out)
    assert calls == [(checkpoint, data, out, True)]


def test_a_missing_encoder_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(module.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as raised:
        module.demo(tmp_path / "out")
    assert "optkit[demo]" in raised.value.hint


def test_the_encoder_is_found_without_importing_its_package():
    import sys

    try:
        folder = module.encoder_folder()
    except MissingDependency:
        pytest.skip("the demo's extra is not installed")
    assert (folder / "model.safetensors").exists()
    assert module.ENCODER_PACKAGE not in sys.modules
