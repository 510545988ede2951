"""The public `distill`: typed scores, events, and what is refused before any work."""

from __future__ import annotations

import math
import shutil

import pytest

import optkit
from optkit.errors import OutputError
from optkit.events import Progress, Step


def test_a_student_learns_and_both_scores_are_told(checkpoint, data, tmp_path):
    heard, student = [], shutil.copytree(checkpoint, tmp_path / "student")
    asked = {"teacher": checkpoint, "data": data, "epochs": 1.0, "batch": 32, "threads": 1}
    trained = optkit.distill(student, out=tmp_path / "out", events=heard.append, **asked)
    assert trained == optkit.Trained.read(tmp_path / "out")
    assert trained.metric == "accuracy"
    assert all(0 <= score <= 1 for score in (trained.score_before, trained.score))
    assert all(math.isfinite(epoch.distance) for epoch in trained.history)
    assert [e.name for e in heard if isinstance(e, Step)] == ["distilling student"]
    assert any(isinstance(e, Progress) for e in heard)


def test_an_output_that_is_there_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        optkit.distill("no such model", teacher="nor this", out=tmp_path / "out")
