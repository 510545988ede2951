from __future__ import annotations

import shutil

import pytest

from optkit import load
from optkit.core.artifact import Artifact
from optkit.core.output import check_free
from optkit.errors import DataError, OutputError, PassError, RecipeError
from optkit.events import Progress, Scored
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import write_jsonl
from tests.training.conftest import interrupted, learnable_sentences

FAST = FinetuneSettings(epochs=3, batch=16, learning_rate=5e-3, max_length=16)


@pytest.fixture(scope="module")
def trained(checkpoint, learnable, tmp_path_factory) -> Artifact:
    return finetune(checkpoint, learnable, tmp_path_factory.mktemp("t") / "out", FAST)


def test_it_learns_and_says_how_well(trained):
    notes = trained.lineage[-1]["notes"]
    assert notes["metric"] == "accuracy"
    assert notes["score"] > 0.9
    assert len(notes["history"]) == 3
    assert notes["score"] == max(e["score"] for e in notes["history"]), "the best epoch is kept"


def test_the_result_is_a_checkpoint_that_answers_with_the_data_s_labels(trained):
    trained.verify()
    with load(trained.path) as model:
        good, bad = model.predict(["good film", "bad film"])
    assert (good.label, bad.label) == ("positive", "negative")


def test_only_the_result_is_left(trained):
    check_free(trained.path, force=True)
    assert [p.name for p in trained.path.parent.iterdir()] == ["out"]


def test_the_same_seed_gives_the_same_weights(trained, checkpoint, learnable, tmp_path):
    again = finetune(checkpoint, learnable, tmp_path / "out", FAST)
    name = "model.safetensors"
    assert again.manifest["files"][name] == trained.manifest["files"][name]


def test_an_interrupted_run_resumes_to_the_same_weights(trained, checkpoint, learnable, tmp_path):
    interrupted(checkpoint, learnable, tmp_path / "out", FAST, after=0.6)
    assert not (tmp_path / "out").exists()
    (work,) = tmp_path.iterdir()
    (work / "checkpoint-999").mkdir()  # a kill in the middle of writing leaves such a folder
    (work / "checkpoint-999" / "model.safetensors").write_bytes(b"half")
    events = []
    again = finetune(
        checkpoint,
        learnable,
        tmp_path / "out",
        FAST,
        events=events.append,
    )
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    heard = [(e.epoch, e.score) for e in events if isinstance(e, Scored)]
    assert fractions[0] > 1 / 3, "it did not begin again"
    history = trained.lineage[-1]["notes"]["history"]
    assert heard == [(e["epoch"], e["score"]) for e in history[-len(heard) :]], "each new epoch is told"
    assert heard
    name = "model.safetensors"
    assert again.manifest["files"][name] == trained.manifest["files"][name]


def test_a_regression_follows_from_fractions(checkpoint, tmp_path):
    for split in ("train", "validation"):
        rows = [{"text": "good " * (i % 5 + 1), "label": i % 5 + 0.5} for i in range(40)]
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    made = finetune(checkpoint, tmp_path, tmp_path / "out", FAST)
    assert made.config["problem_type"] == "regression"
    assert made.lineage[-1]["notes"]["metric"] == "spearman"


def test_one_class_only_is_refused(checkpoint, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a film", "label": "x"}] * 20)
    with pytest.raises(DataError, match="at least two classes"):
        finetune(checkpoint, tmp_path, tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_before_any_work(trained, checkpoint, learnable):
    with pytest.raises(OutputError, match="exists"):
        finetune(checkpoint, learnable, trained.path, FAST)


def diverging(settings):
    """`settings` with a learning rate that none may ask for, after which the first step leaves no numbers."""
    object.__setattr__(settings, "learning_rate", 1e30)
    return settings


def test_a_loss_that_is_no_number_stops_with_step_and_epoch(checkpoint, learnable, tmp_path):
    wild = diverging(FinetuneSettings(epochs=2, batch=8, warmup=0, max_length=16))
    with pytest.raises(PassError, match="The loss is nan at step"):
        finetune(checkpoint, learnable, tmp_path / "out", wild)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "batch", "said"),
    [
        (96, 32, "The loss is nan at step"),
        (96, 96, "answers on validation, received others"),
    ],
    ids=["nine steps", "one step"],
)
def test_a_run_that_ends_between_two_looks_is_looked_at(checkpoint, learnable, tmp_path, rows, batch, said):
    write_jsonl(tmp_path / "train.jsonl", learnable_sentences(rows))
    shutil.copyfile(learnable / "validation.jsonl", tmp_path / "validation.jsonl")
    epochs = 1 if batch == rows else 3
    wild = diverging(FinetuneSettings(epochs=epochs, batch=batch, warmup=0, max_length=16))
    with pytest.raises(PassError, match=said):
        finetune(checkpoint, tmp_path, tmp_path / "out", wild)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out.work-*/checkpoint-*")), "no checkpoint of what diverged"


def test_a_short_run_has_its_curves(checkpoint, learnable, tmp_path):
    short = FinetuneSettings(epochs=2, batch=32, max_length=16)
    made = finetune(checkpoint, learnable, tmp_path / "out", short)
    losses = made.lineage[-1]["notes"]["losses"]
    assert [x["step"] for x in losses] == [5, 10], "each epoch's end, and every tenth step"
    assert all({"loss", "learning_rate", "grad_norm"} <= set(x) for x in losses)
    assert (made.path / "training.html").read_text(encoding="utf-8").count("<svg") == 4


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"learning_rate": -1}, {"batch": 0}, {"warmup": 1.5}, {"max_length": 1}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(RecipeError, match=next(iter(bad))):
        FinetuneSettings(**bad)
