"""What a trial's loop makes, holds and chooses."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from optkit.artifact import MANIFEST
from optkit.benchmarking.gate import Gate
from optkit.compression.resume_cache import key_after, step_folder
from optkit.compression.search.chain import chain_of
from optkit.compression.search.models import delete
from optkit.compression.search.run import _Study
from optkit.compression.search.trial import COSTS, TrialLoop
from optkit.report.interval import Interval
from optkit.report.model import Row


def row(name: str, speed: float, size: int, memory: int, verdict: str = "passed") -> Row:
    ratio = Interval(speed, speed, speed)
    return Row(name, name, "fake", "int8", size, 0.9, 0, 1, [], ratio, memory, 0, verdict)


ROWS = (
    row("fast", 4.0, 100_000_000, 300_000_000),
    row("small", 2.0, 50_000_000, 200_000_000),
    row("smaller by a hair", 1.5, 49_900_000, 210_000_000),
    row("lean", 1.0, 90_000_000, 150_000_000),
    row("refused", 9.0, 1, 1, "failed"),
)


@pytest.mark.parametrize(("objective", "name"), [("latency", "fast"), ("size", "small"), ("memory", "lean")])
def test_the_objective_decides_and_where_it_is_alike_the_speed(objective, name):
    loop = object.__new__(TrialLoop)
    loop.rows, loop.leaves, loop.measured = list(ROWS), [r.name for r in ROWS], None
    loop.objective = objective
    assert loop.choose(()).name == name


def test_where_none_passed_the_best_score_whatever_the_objective():
    loop = object.__new__(TrialLoop)
    loop.rows, loop.measured, loop.objective = [row("a", 1, 1, 1, "failed")], None, "size"
    loop.leaves = ["a"]
    assert loop.choose(()).name == "a"


class FakeLoop(TrialLoop):
    """Steps are noted and leave an empty folder; nothing is scored."""

    def __init__(self, work):
        self.work, self.checkpoint, self.applied, self.leaves = work, None, [], []
        self.rows, self._held = [SimpleNamespace(name="row")], ExitStack()

    def _begin(self, name):
        pass

    def _apply(self, step, source, key):
        self.applied.append(step.name())
        step_folder(self.work, step, key).mkdir(exist_ok=True)
        return SimpleNamespace(format=step.produces)

    def _add(self, title, key, artifact, parent):
        pass

    def require_hope(self, row):
        pass


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.setattr(
        "optkit.compression.search.trial.Artifact", SimpleNamespace(open=lambda folder: folder)
    )
    return chain_of({"prune.share": 0.5, "distill.epochs": 1, "quantize": "quantize-dynamic"})


def folders(work, chain):
    return [step_folder(work, step, key_after("root", *chain[: i + 1])) for i, step in enumerate(chain)]


def test_another_process_does_not_delete_what_a_trial_makes_or_uses(tmp_path, chain):
    with FakeLoop(tmp_path) as loop:
        loop.candidate(chain, "root", "trial 0")
        assert not any(delete(folder) for folder in folders(tmp_path, chain))
    assert all(delete(folder) for folder in folders(tmp_path, chain))


def test_what_came_before_a_step_that_is_there_is_not_made_again(tmp_path, chain):
    folders(tmp_path, chain)[1].mkdir()
    with FakeLoop(tmp_path) as loop:
        loop.candidate(chain, "root", "trial 0")
    assert loop.applied == ["distill", "export-onnx", "quantize-dynamic"]


def test_in_the_end_what_is_used_and_what_was_distilled_stays(tmp_path, chain):
    """Another process with more --trials is at work while this one, with fewer, comes to its end."""
    study = SimpleNamespace(get_trials=lambda deepcopy: [])
    objectives = [COSTS["size"]]
    run = _Study(study, None, Gate(), "size", objectives, {"work": tmp_path}, baseline="export-onnx-b")
    for name in ("distill-a", "prune-a", "export-onnx-a", "export-onnx-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    with FakeLoop(tmp_path) as other:
        other.candidate(chain, "root", "trial 7")
        for folder in folders(tmp_path, chain):
            (folder / MANIFEST).write_text("{}")
        run.sweep(last=True)
        left = {p.parent for p in tmp_path.glob(f"*/{MANIFEST}")}
        assert left == {*folders(tmp_path, chain), tmp_path / "distill-a", tmp_path / "export-onnx-b"}
    run.sweep(last=True)
    assert {p.name.split("-")[0] for p in tmp_path.glob("*-*") if p.is_dir()} == {"distill", "export"}
