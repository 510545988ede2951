"""What an interrupted run leaves is taken up again only where nothing that it was made from has changed."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from optkit.artifact import Artifact
from optkit.bench.latency import Measured, Measurement
from optkit.compression import compress
from optkit.errors import CheckpointError, DataError, PassError, RecipeError, WorkerError
from optkit.evaluation import failed_row
from optkit.gate import Gate
from optkit.loop import Loop
from optkit.passes.distill import Distill
from optkit.passes.prune import Prune
from optkit.recipe import Recipe
from optkit.targets import EAGER
from tests.conftest import sentences, write_jsonl

QUICK = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}
PRUNE = Prune(0.5, criterion="random", refit="none")


def scored(checkpoint, data, out, *steps, **options):
    """Run a chain until it would be timed; the notes."""
    notes = []

    def listen(event):
        if event["event"] == "note":
            notes.append(event["text"])
        if event["event"] == "step" and event["name"].startswith("latency"):
            raise KeyboardInterrupt

    recipe = Recipe.of(steps, Gate(max_drop=None))
    with pytest.raises(KeyboardInterrupt):
        compress(checkpoint, recipe, data=data, out=out, listener=listen, **QUICK, **options)
    return notes


@pytest.fixture
def own_data(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


def test_a_pass_runs_again_where_the_training_data_has_changed(checkpoint, own_data, tmp_path):
    before = "prune: done before, not run again"
    assert before not in scored(checkpoint, own_data, tmp_path / "x", PRUNE)
    assert before in scored(checkpoint, own_data, tmp_path / "x", PRUNE)
    write_jsonl(own_data / "train.jsonl", sentences(64, seed=7))
    notes = scored(checkpoint, own_data, tmp_path / "x", PRUNE)
    assert before not in notes
    assert "export-onnx: done before, not run again" in notes, "it does not read the training data"


def test_the_metric_asked_for_decides_which_moment_of_the_training_stays(checkpoint, data, tmp_path):
    steps = PRUNE, Distill(epochs=1.0, batch=32)
    for metric in (None, "matthews"):
        notes = scored(checkpoint, data, tmp_path / "x", *steps, metric=metric)
        assert "distill: done before, not run again" not in notes
    made = (tmp_path / ".x.work").glob("distill-*/optkit.json")
    assert {Artifact.open(f.parent).lineage[-1]["notes"]["metric"] for f in made} == {"accuracy", "matthews"}


def test_a_teacher_that_cannot_teach_is_refused_before_any_work(checkpoint, make_checkpoint, data, tmp_path):
    for wrong, error, message in (
        (Distill(teacher=str(tmp_path / "typo")), CheckpointError, "does not exist"),
        (Distill(unlabelled=str(tmp_path / "typo.txt")), DataError, "a file of texts"),
        (Distill(teacher=str(make_checkpoint("bert", ("a", "b", "c")))), RecipeError, "labels"),
    ):
        steps = []
        with pytest.raises(error, match=message):
            compress(
                checkpoint,
                Recipe.of([PRUNE, wrong]),
                data=data,
                out=tmp_path / "x",
                listener=lambda e, steps=steps: steps.append(e["event"]),
                **QUICK,
            )
        assert "step" not in steps
        assert not (tmp_path / "x").exists()


def test_a_shared_step_that_fails_fails_once(checkpoint, data, tmp_path, monkeypatch):
    whole, tried = Loop._apply, []

    def fails(self, step, source, key):
        if step.name() != "prune":
            return whole(self, step, source, key)
        tried.append(step)
        raise PassError("The loss is nan.")

    monkeypatch.setattr(Loop, "_apply", fails)
    rows = []

    def listen(event):
        if event["event"] == "note" and event["text"].startswith("prune"):
            rows.append(event["text"])

    with pytest.raises(PassError, match="loss is nan"):
        compress(
            checkpoint,
            Recipe.of([PRUNE, "int8"], runtime="onnxruntime"),
            data=data,
            out=tmp_path / "x",
            listener=listen,
            **QUICK,
        )
    assert len(tried) == 1
    assert rows == ["prune: The loss is nan."]


def judged_loop(evaluator, *names, errors=()):
    """A loop whose rows are the two baselines and INT8 candidates `names`, up to the timing."""
    rows = [failed_row(name, None) for name in (EAGER, "ort-fp32", *names)]
    for row in rows:
        row.verdict, row.precision = "baseline", "int8" if row.name in names else "fp32"
    loop = object.__new__(Loop)
    loop.rows, loop.leaves, loop._tuned, loop._hopeless = rows, list(names), "ort-fp32", set()
    loop.candidates = [SimpleNamespace(name=row.name) for row in rows]
    loop.listen, loop.evaluator = lambda event: None, evaluator
    found = {row.name: Measured(row.name, error="killed" if row.name in errors else None) for row in rows}
    evaluator.time = lambda rows, candidates: Measurement(found)
    return loop


@pytest.mark.parametrize("name", [EAGER, "ort-fp32"])
def test_a_baseline_that_fails_while_timed_ends_the_run(name):
    loop = judged_loop(SimpleNamespace(), "int8", errors=[name])
    with pytest.raises(WorkerError, match=f"the baseline {name}, received an error: killed"):
        loop._time()


def test_a_candidate_that_fails_while_probed_is_an_error_and_the_others_go_on():
    def probe(candidate):
        if candidate.name == "bad":
            raise WorkerError("It ended with code -9.", hint="Give it more memory.")
        return {"neighbours": {"invariant": True}}

    loop = judged_loop(SimpleNamespace(probe=probe), "bad", "good")
    loop._probe()
    bad, good = loop.rows[2:]
    assert bad.verdict == "error"
    assert "ended with code -9. Give it more memory." in bad.reasons[0]
    assert good.probes["neighbours"]["invariant"]
