"""What a trial makes, holds and chooses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from optkit.benchmarking.gate import Gate
from optkit.compression.search import trial
from optkit.compression.search.chain import chain_of
from optkit.compression.search.models import delete
from optkit.compression.search.run import _Study
from optkit.compression.search.trial import COSTS, chain_models, choose
from optkit.compression.store import Store, key_after, step_folder
from optkit.core.artifact import MANIFEST
from optkit.events import silent
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
    chosen, _ = choose(list(ROWS), [r.name for r in ROWS], objective, (), None)
    assert chosen.name == name


def test_where_none_passed_the_best_score_whatever_the_objective():
    chosen, _ = choose([row("a", 1, 1, 1, "failed")], ["a"], "size", (), None)
    assert chosen.name == "a"


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.setattr(trial, "Artifact", SimpleNamespace(open=lambda folder: folder))
    return chain_of({"prune.share": 0.5, "distill.epochs": 1, "quantize": "quantize-dynamic"})


@pytest.fixture
def applied(monkeypatch):
    """Steps are noted and leave an empty folder; nothing is scored."""
    names = []

    def apply(job, step, source, folder):
        names.append(step.name())
        folder.mkdir(exist_ok=True)
        return SimpleNamespace(format=step.produces)

    monkeypatch.setattr(trial, "apply", apply)
    monkeypatch.setattr(trial, "candidate", lambda job, title, artifact: title)
    monkeypatch.setattr(trial, "score", lambda job, store, candidate, *_: candidate)
    return names


JOB = SimpleNamespace(source=None, events=silent)


def run(store, chain, title="trial 0"):
    return list(chain_models(JOB, store, chain, title))


def folders(work, chain):
    return [step_folder(work, step, key_after("root", *chain[: i + 1])) for i, step in enumerate(chain)]


def test_another_process_does_not_delete_what_a_trial_makes_or_uses(tmp_path, chain, applied):
    with Store(tmp_path, "root", shared=True) as store:
        run(store, chain)
        assert not any(delete(folder) for folder in folders(tmp_path, chain))
    assert all(delete(folder) for folder in folders(tmp_path, chain))


def test_what_came_before_a_step_that_is_there_is_not_made_again(tmp_path, chain, applied):
    folders(tmp_path, chain)[1].mkdir()
    with Store(tmp_path, "root", shared=True) as store:
        assert run(store, chain) == ["trial 0: distill", "trial 0"]
    assert applied == ["distill", "export-onnx", "quantize-dynamic"]


def test_in_the_end_what_is_used_and_what_was_distilled_stays(tmp_path, chain, applied):
    """Another process with more --trials is at work while this one, with fewer, comes to its end."""
    ended = SimpleNamespace(get_trials=lambda deepcopy: [])
    study = _Study(ended, None, Store(tmp_path, "root"), Gate(), "size", [COSTS["size"]])
    for name in ("distill-a", "prune-a", "export-onnx-a", "export-onnx-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text("{}")
    with Store(tmp_path, "root", shared=True) as other:
        run(other, chain, "trial 7")
        for folder in folders(tmp_path, chain):
            (folder / MANIFEST).write_text("{}")
        study.sweep(baseline="export-onnx-b")
        left = {p.parent for p in tmp_path.glob(f"*/{MANIFEST}")}
        assert left == {*folders(tmp_path, chain), tmp_path / "distill-a", tmp_path / "export-onnx-b"}
    study.sweep(baseline="export-onnx-b")
    assert {p.name.split("-")[0] for p in tmp_path.glob("*-*") if p.is_dir()} == {"distill", "export"}
