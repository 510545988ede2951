"""Two processes of a job distill as one does, resume alike, and only the first one writes."""

from __future__ import annotations

import pytest

from optkit.core.artifact import Artifact
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply
from optkit.passes.prune import Prune
from tests.forks import one_rank, two_ranks

FLAGS = "--epochs 2 --batch 16 --learning-rate 1e-3 --threads 1 --quantization-aware 1 --metric f1".split()  # noqa: SIM905


def test_two_processes_have_the_loss_curve_of_one(checkpoint, context, data, tmp_path):
    step = Prune(0.5, criterion="random", refit="none")
    student = apply(step, fetch(checkpoint), tmp_path / "student", context)
    notes = []
    for name, start in (("one", one_rank), ("two", two_ranks)):
        out = str(tmp_path / "made" / name)
        given = [
            "distill",
            str(student.path),
            "--teacher",
            str(checkpoint),
            "--data",
            str(data),
            "--out",
            out,
        ]
        ended = start("-m", "optkit", *given, *FLAGS)
        assert all(code == 0 for code, *_ in ended), ended
        assert "".join(stdout for _, stdout, _ in ended).count("kept:") == 1, "rank 0 alone speaks"
        notes.append(Artifact.open(out).lineage[-1]["notes"])
    assert [n["processes"] for n in notes] == [1, 2]
    assert [n["metric"] for n in notes] == ["f1", "f1"]
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["one", "two"]
    distances = [[e["distance"] for e in n["history"]] for n in notes]
    # Hidden states are averaged over the tokens of each process, so the curves are near, not equal.
    assert distances[0] == pytest.approx(distances[1], rel=0.15)
