"""Two processes under torchrun train as one does at the same batch, and only the first one writes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optkit.artifact import Artifact
from optkit.errors import RecipeError
from optkit.trainer.distributed import World
from optkit.trainer.settings import FinetuneSettings
from optkit.training.finetune import finetune
from tests.conftest import sentences, write_jsonl

FLAGS = "--epochs 2 --batch 16 --learning-rate 1e-3 --max-length 16 --seed 0".split()  # noqa: SIM905


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(RecipeError, match="2 processes x 1 parts"):
        World(0, 2).check(FinetuneSettings(batch=15))
    assert World(0, 2).share(FinetuneSettings(batch=16, accumulate=4)) == 2


def test_parts_of_a_batch_train_as_the_whole(make_checkpoint, tmp_path):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    checkpoint = make_checkpoint("bert", **still)
    write_jsonl(tmp_path / "train.jsonl", sentences(160))
    losses = []
    for name, parts in (("one", 1), ("parts", 2)):
        settings = FinetuneSettings(epochs=2, batch=16, learning_rate=1e-3, max_length=16, accumulate=parts)
        made = finetune(checkpoint, tmp_path / "train.jsonl", tmp_path / name, settings)
        losses.append([x["loss"] for x in made.lineage[-1]["notes"]["losses"]])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_two_processes_have_the_loss_curve_of_one(make_checkpoint, tmp_path):
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # dropout differs per process
    checkpoint = make_checkpoint("bert", **still)
    for split, count in (("train", 160), ("validation", 41)):
        write_jsonl(tmp_path / f"{split}.jsonl", sentences(count, seed=count))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    one = [sys.executable, "-m"]
    two = [*one, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    notes = []
    for name, start in (("one", one), ("two", two)):
        command = [*start, "optkit", "finetune", str(checkpoint), "--data", str(tmp_path)]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "made" / name), *FLAGS],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("kept:") == 1, "rank 0 alone speaks"
        notes.append(Artifact.open(tmp_path / "made" / name).lineage[-1]["notes"])
    assert [n["processes"] for n in notes] == [1, 2]
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["one", "two"]
    steps, losses = zip(
        *[([x["step"] for x in n["losses"]], [x["loss"] for x in n["losses"]]) for n in notes]
    )
    assert steps[0] == steps[1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    scores = [[e["score"] for e in n["history"]] for n in notes]
    assert scores[0] == pytest.approx(scores[1], abs=0.03), (
        "41 examples are not split evenly, and counted once"
    )
