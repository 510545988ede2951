"""`optkit tune` on a tiny model: what it keeps, that it resumes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from optkit import load
from optkit.cli import app
from optkit.core.artifact import Artifact
from optkit.errors import DataError, OutputError, RecipeError
from optkit.events import Step
from optkit.training.tune import tune
from tests.conftest import sentences, write_jsonl
from tests.forks import Fork

FAST = ("learning_rate=loguniform(1e-5,1e-2)", "epochs=2", "max_length=16")


@pytest.fixture(scope="module")
def learnable(tmp_path_factory):
    """Sentences whose label follows from a word; the test split is damaged: nobody may read it."""
    folder = tmp_path_factory.mktemp("learnable")
    for split, count in (("train", 96), ("validation", 40)):
        rows = sentences(count, seed=count)
        for row in rows:
            row["text"] = "good film" if row["label"] == "positive" else "bad film"
        write_jsonl(folder / f"{split}.jsonl", rows)
    (folder / "test.jsonl").write_text("not JSON\n")
    return folder


@pytest.fixture(scope="module")
def tuned(checkpoint, learnable, tmp_path_factory):
    """Two trials, after which the same call with three goes on."""
    out, events = tmp_path_factory.mktemp("models") / "best", []
    first = tune(checkpoint, learnable, out, FAST, trials=2, sampler="random")
    result = tune(checkpoint, learnable, out, FAST, trials=3, sampler="random", events=events.append)
    return out, first, result, events


def test_the_best_checkpoint_is_kept_and_answers(tuned):
    out, _, result, _ = tuned
    best = result.trial(result.best[0])
    assert best.values[0] == max(t.values[0] for t in result.complete)
    artifact = Artifact.open(out)
    artifact.verify()
    step = artifact.lineage[-1]
    assert step["notes"]["score"] == best.values[0]
    assert step["parameters"]["learning_rate"] == best.parameters["learning_rate"]
    with load(out) as model:
        assert model.predict(["good film"])[0].label in ("negative", "positive")


def test_the_others_weights_are_gone(tuned):
    out, _, result, _ = tuned
    folder = out.with_name("best.study")
    (kept,) = folder.glob("trial-*")
    assert kept.name.startswith(f"trial-{result.best[0]:04d}-")
    assert not list(folder.glob(".trial-*"))


def test_more_trials_went_on_with_the_study(tuned):
    _, first, result, events = tuned
    assert [t.parameters for t in result.trials[:2]] == [t.parameters for t in first.trials]
    assert len(result.trials) == 3
    begun = [e.name for e in events if isinstance(e, Step)]
    assert [name.split(":")[0] for name in begun] == ["trial 2"]


def test_epochs_were_reported(tuned):
    for trial in tuned[2].complete:
        assert set(trial.curve) == {1, 2}
        assert max(trial.curve.values()) == trial.values[0]


def test_the_page_lies_beside_the_model(tuned):
    out = tuned[0]
    assert json.loads((out / "study.json").read_text())["objectives"][0]["name"] == "validation accuracy"
    assert "is the best: validation accuracy" in (out / "study.html").read_text()


def test_a_changed_space_or_other_data_is_refused(tuned, checkpoint, learnable, tmp_path):
    out = tuned[0]
    with pytest.raises(
        RecipeError, match="another space: epochs=choice\\(2\\); received epochs=choice\\(3\\)"
    ):
        tune(checkpoint, learnable, out, (*FAST, "epochs=3"))
    write_jsonl(tmp_path / "train.jsonl", sentences(40))
    write_jsonl(tmp_path / "validation.jsonl", sentences(20))
    with pytest.raises(RecipeError, match="another data: train="):
        tune(checkpoint, tmp_path, out, FAST)
    assert Artifact.open(out).verify() is None, "nothing was touched"


@pytest.mark.parametrize("other", ["name", "storage"])
def test_a_second_study_with_the_same_out_takes_nothing_from_the_first(
    checkpoint, learnable, tmp_path, other
):
    out, space = tmp_path / "out", ["learning_rate={}", "epochs=1", "max_length=16"]
    first = tune(checkpoint, learnable, out, [space[0].format(1e-2), *space[1:]], trials=1)
    before = Artifact.open(out)
    given = {"study": "b"} if other == "name" else {"storage": f"sqlite:///{tmp_path / 'b.db'}"}
    slow = [space[0].format(1e-9), *space[1:]]
    result = tune(checkpoint, learnable, out, slow, trials=1, force=True, **given)
    step = Artifact.open(out).lineage[-1]
    assert (
        step["parameters"]["learning_rate"]
        == result.trial(result.best[0]).parameters["learning_rate"]
        == 1e-9
    )
    assert step["notes"]["score"] == result.trial(result.best[0]).values[0]
    assert Artifact.open(out).fingerprint() != before.fingerprint()
    again = tune(checkpoint, learnable, out, [space[0].format(1e-2), *space[1:]], trials=1, force=True)
    assert again.best == first.best
    assert Artifact.open(out).fingerprint() == before.fingerprint(), "the first study kept its checkpoint"


def test_a_study_that_was_moved_finds_its_checkpoint(tuned, checkpoint, learnable, tmp_path):
    shutil.copytree(tuned[0].with_name("best.study"), tmp_path / "best.study")
    tune(checkpoint, learnable, tmp_path / "best", FAST, trials=3, sampler="random")
    assert Artifact.open(tmp_path / "best").fingerprint() == Artifact.open(tuned[0]).fingerprint()


def test_an_output_of_something_else_is_refused(checkpoint, learnable, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        tune(checkpoint, learnable, tmp_path / "out", FAST)
    assert not (tmp_path / "out.study").exists()


def test_bad_data_and_names_stop_before_any_trial(checkpoint, learnable, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a film", "label": "x"}] * 20)
    with pytest.raises(DataError, match="at least two classes"):
        tune(checkpoint, tmp_path, tmp_path / "out", FAST)
    with pytest.raises(RecipeError, match="Unknown name 'learning_rat'"):
        tune(checkpoint, learnable, tmp_path / "out", ["learning_rat=1"])
    with pytest.raises(RecipeError, match="batch=choice\\(0,8\\): Expected batch as a whole number from 1"):
        tune(checkpoint, learnable, tmp_path / "out", ["batch=0,8"])
    with pytest.raises(RecipeError, match="Expected epochs as a number of epochs above 0, .*'many'"):
        tune(checkpoint, learnable, tmp_path / "out", ["epochs=many"])
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_hub_name_is_taken_as_finetune_takes_it(checkpoint, learnable, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "optkit.models.checkpoint._download", lambda name, _: asked.append(name) or checkpoint
    )
    tune("owner/name", learnable, tmp_path / "out", ["epochs=1", "max_length=16"], trials=1, sampler="random")
    assert asked == ["owner/name"]
    assert Artifact.open(tmp_path / "out").lineage[-1]["parameters"]["model"] == str(checkpoint)


def test_a_name_that_is_neither_folder_nor_on_the_hub_stops_before_any_trial(learnable, tmp_path):
    command = ["tune", "nobody/nothing", "--data", str(learnable), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code
    assert "could not be had from the hub" in str(done.exception or done.output)
    assert not list(tmp_path.iterdir())


def test_a_hopeless_trial_is_stopped_after_an_epoch(checkpoint, learnable, tmp_path, monkeypatch):
    monkeypatch.setattr("optkit.training.tuning.samplers.STARTUP", 1)
    space = ("learning_rate=1e-2,1e-9", "epochs=2", "max_length=16")
    result = tune(checkpoint, learnable, tmp_path / "out", space, trials=2, sampler="grid", seed=1)
    ended = {t.parameters["learning_rate"]: (t.state, len(t.curve)) for t in result.trials}
    if result.trials[0].parameters["learning_rate"] == 1e-9:
        pytest.fail("the seed has to try the good one first")
    assert ended == {1e-2: ("complete", 2), 1e-9: ("stopped early", 1)}
    assert not list((tmp_path / "out.study").glob(".trial-*")), "what it left is deleted"


def test_kill_9_and_the_same_command_resumes(checkpoint, learnable, tmp_path):
    """Killed when the second trial has begun; in the end it is as if nothing had happened."""
    command = [sys.executable, "-m", "optkit", "tune", str(checkpoint), "--data", str(learnable)]
    command += ["--out", str(tmp_path / "out"), "--trials", "2", "--sampler", "random", "--seed", "7"]
    command += [word for text in FAST for word in ("--space", text)]
    process = Fork(command)
    while not list((tmp_path / "out.study").glob(".trial-0001-*.work-*/checkpoint-*")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    again = Fork(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stdout, stderr = again.communicate()
    assert again.returncode == 0, stderr
    assert "trial 1: process" in stderr
    assert "is gone; going on with it" in stderr
    assert "trial 0:" not in stderr, "what was finished is not run again"
    assert "2 trials: 2 complete" in stdout
    stored = json.loads((tmp_path / "out" / "study.json").read_text())
    assert [t["number"] for t in stored["trials"]] == [0, 1]
