from __future__ import annotations

import json
from collections import Counter

import pytest

import optkit.demo as module
from optkit.demo_data import AREAS, write_docstrings
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
