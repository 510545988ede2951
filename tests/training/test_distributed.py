"""Two processes under torchrun train as one does at the same batch, and only the first one writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from optkit.core.artifact import Artifact
from optkit.errors import RecipeError
from optkit.training.finetune import finetune
from optkit.training.trainer.distributed import World
from optkit.training.trainer.settings import FinetuneSettings
from tests.conftest import sentences, write_jsonl
from tests.forks import one_rank, two_ranks
from tests.training.conftest import learnable_sentences

FLAGS = "--epochs 8 --batch 16 --learning-rate 1e-3 --max-length 16 --seed 0 --class-weights balanced".split()  # noqa: SIM905


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(RecipeError, match="2 processes x 1 parts"):
        World(0, 2).check(FinetuneSettings(batch=15))
    assert World(0, 2).share(FinetuneSettings(batch=16, accumulate=4)) == 2


def weighted(count):
    """One label is rare, so that parts of a batch hold unlike weights."""
    return [row | {"label": "rare" if i % 7 == 0 else "usual"} for i, row in enumerate(sentences(count))]


def words(count):
    """Long texts and short ones: parts of a batch hold unlike numbers of targets, and the last one none."""
    found = [row["text"].split()[: 2 + 9 * (i % 2)] for i, row in enumerate(sentences(count - 1))]
    rows = [{"tokens": text, "tags": ["x" if w == "good" else "y" for w in text]} for text in found]
    return [*rows, {"tokens": ["\u200b"], "tags": ["y"]}]


@pytest.mark.parametrize(
    ("make_rows", "asked"),
    [(sentences, {}), (weighted, {"class_weights": "balanced"}), (words, {})],
    ids=["plain", "weighted", "tokens"],
)
def test_parts_of_a_batch_train_as_the_whole(make_checkpoint, tmp_path, make_rows, asked):
    """The last batch of 173 rows is short."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    checkpoint = make_checkpoint("bert", **still)
    write_jsonl(tmp_path / "train.jsonl", make_rows(173))
    write_jsonl(tmp_path / "validation.jsonl", make_rows(30))
    curves = []
    for name, parts in (("one", 1), ("parts", 4)):
        settings = FinetuneSettings(
            epochs=2, batch=16, learning_rate=1e-3, max_length=16, accumulate=parts, **asked
        )
        made = finetune(checkpoint, tmp_path, tmp_path / name, settings)
        curves.append([x[n] for x in made.lineage[-1]["notes"]["losses"] for n in ("loss", "grad_norm")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def job(make_checkpoint, tmp_path_factory):
    """Folder, (start, name) → command, environment. Neither 41 sentences nor 167 are shared evenly (of the
    last batch one process has none), and parts of a batch hold unlike weights of classes."""
    folder = tmp_path_factory.mktemp("job")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # dropout differs per process
    checkpoint = make_checkpoint("bert", **still)
    for split, count in (("train", 167), ("validation", 41)):
        rows = enumerate(learnable_sentences(3 * count))
        kept = [row for i, row in rows if row["label"] == "positive" or i % 4 == 0]
        write_jsonl(folder / f"{split}.jsonl", kept[:count])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }

    def command(start, name):
        out = folder / "made" / name
        return [
            *start,
            *("-m", "optkit"),
            "finetune",
            str(checkpoint),
            "--data",
            str(folder),
            "--out",
            str(out),
            *FLAGS,
        ]

    return folder / "made", command, environment


@pytest.fixture(scope="module")
def two(job):
    folder, command, environment = job
    done = subprocess.run(command(TWO, "two"), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done, Artifact.open(folder / "two")


def test_two_processes_have_the_loss_curve_of_one(job, two):
    folder, command, _ = job
    done, made = two
    assert done.stdout.count("kept:") == 1, "rank 0 alone speaks"
    ((code, _, stderr),) = one_rank(*command([], "one"))
    assert code == 0, stderr
    notes = [Artifact.open(folder / "one").lineage[-1]["notes"], made.lineage[-1]["notes"]]
    assert [n["processes"] for n in notes] == [1, 2]
    assert sorted(p.name for p in folder.iterdir()) == ["one", "two"]
    steps, losses, norms = (
        [[x[name] for x in n["losses"]] for n in notes] for name in ("step", "loss", "grad_norm")
    )
    assert steps[0] == steps[1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert norms[0] == pytest.approx(norms[1], rel=0.02, abs=1e-3)
    scores = [[e["score"] for e in n["history"]] for n in notes]
    assert scores[0] == scores[1], "41 examples are not split evenly, and counted once"
    assert (scores[0][0] * 41) == pytest.approx(round(scores[0][0] * 41))


def test_a_killed_worker_ends_the_job_and_the_same_command_resumes(job, two):
    psutil = pytest.importorskip("psutil")
    folder, command, environment = job
    child = subprocess.Popen(
        command(TWO, "killed"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(folder.glob(".killed.work-*/checkpoint-*/trainer_state.json")):
        time.sleep(0.01)
    family = psutil.Process(child.pid).children(recursive=True)
    workers = [p for p in family if "optkit.training.worker" in p.cmdline()]
    next(p for p in workers if p.environ()["RANK"] == "1").kill()
    said = child.communicate(timeout=120)[1]
    assert child.returncode != 0
    assert "ended with code -9" in said
    assert "The same command resumes" in said
    assert not (folder / "killed").exists()
    again = two_ranks(*command([], "killed"))
    assert [code for code, *_ in again] == [0, 0], again
    made, name = Artifact.open(folder / "killed"), "model.safetensors"
    assert made.manifest["files"][name] == two[1].manifest["files"][name]
