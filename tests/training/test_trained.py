"""`Trained` is what the last step of a checkpoint notes."""

from __future__ import annotations

import json

import pytest

from optkit.core.artifact import MANIFEST
from optkit.training.trained import Epoch, Trained

NOTES = {
    "metric": "f1",
    "score": 0.75,
    "history": [{"epoch": 1.0, "score": 0.5}, {"epoch": 2.0, "score": 0.75, "distance": 0.1}],
}
LINE = {"label": "person", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 4}


@pytest.mark.parametrize(
    ("more", "classes", "before"),
    [({}, (), None), ({"table": [LINE], "score_before": 0.25}, (LINE,), 0.25)],
)
def test_it_is_read_from_the_notes_of_the_last_step(checkpoint, tmp_path, more, classes, before):
    from optkit.core.artifact import Artifact, seal

    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    seal(
        tmp_path,
        Artifact(tmp_path, {"lineage": [], "runtime": None, "precision": "fp32"}),
        {"pass": "finetune", "parameters": {}, "notes": {**NOTES, **more}},
        format="hf",
        task="text-classification",
    )
    assert json.loads((tmp_path / MANIFEST).read_text())["lineage"]
    trained = Trained.read(tmp_path)
    assert (trained.path, trained.metric, trained.score) == (tmp_path, "f1", 0.75)
    assert trained.history == (Epoch(1.0, 0.5), Epoch(2.0, 0.75, 0.1))
    assert (trained.classes, trained.score_before) == (classes, before)
