"""What an interrupted run leaves is taken up again only where nothing that it was made from has changed."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from optkit.benchmarking.evaluation import Failure, Model
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Candidate
from optkit.benchmarking.results import failed_row
from optkit.benchmarking.targets import EAGER
from optkit.benchmarking.timed_process import Measured
from optkit.compression import chain
from optkit.compression.compress import compress
from optkit.compression.recipe import Recipe
from optkit.compression.steps import AnyOf
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, OutputError, PassError, RecipeError, WorkerError
from optkit.events import Note, Step, silent
from optkit.passes.distill import Distill
from optkit.passes.prune import Prune
from optkit.passes.prune_width import PruneWidth
from optkit.passes.take_layers import TakeLayers
from optkit.report.model import Answers
from tests.conftest import sentences, write_jsonl

QUICK = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}
PRUNE = Prune(0.5, criterion="random", refit="none")


def scored(checkpoint, data, out, *steps, **options):
    """Run a chain until it would be timed; the notes."""
    notes = []

    def events(event):
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Step) and event.name.startswith("latency"):
            raise KeyboardInterrupt

    recipe = Recipe.of(steps, Gate(max_drop=None))
    with pytest.raises(KeyboardInterrupt):
        compress(checkpoint, recipe, data=data, out=out, events=events, **QUICK, **options)
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


def test_scores_are_not_kept_where_the_names_of_the_labels_have_changed(checkpoint, own_data, tmp_path):
    for split in ("train", "validation"):
        rows = [
            {**row, "label": int(row["label"] == "positive")}
            for row in map(json.loads, (own_data / f"{split}.jsonl").read_text().splitlines())
        ]
        write_jsonl(own_data / f"{split}.jsonl", rows)
    before = "torch-fp32: scored before, not scored again"
    for names in (["positive", "negative"], ["negative", "positive"]):
        (own_data / "labels.json").write_text(json.dumps({"label": names}))
        assert before not in scored(checkpoint, own_data, tmp_path / "x", PRUNE)


def test_a_row_that_was_scored_before_takes_the_names_of_the_recipe_now(checkpoint, data, tmp_path):
    other = Prune(0.3, criterion="random", refit="none")
    scored(checkpoint, data, tmp_path / "x", other, PRUNE)
    notes = scored(checkpoint, data, tmp_path / "x", AnyOf(((PRUNE,), (other,))))
    assert "prune-2: scored before, not scored again" in notes
    assert [n.partition(":")[0] for n in notes if ": accuracy" in n][2:] == ["prune", "prune-2"]


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
                events=lambda e, steps=steps: steps.append(type(e)),
                **QUICK,
            )
        assert Step not in steps
        assert not (tmp_path / "x").exists()
        assert not (tmp_path / ".x.work").exists()


def test_a_cut_that_the_checkpoint_cannot_bear_is_refused_before_any_work(
    checkpoint, make_checkpoint, data, tmp_path
):
    albert = make_checkpoint("albert", embedding_size=16)
    for source, wrong, error, message in (
        (albert, PRUNE, CheckpointError, "Cannot prune the architecture 'albert'"),
        (albert, TakeLayers(1), CheckpointError, "Cannot prune the architecture 'albert'"),
        (albert, PruneWidth(), CheckpointError, "Cannot cut the hidden dimension of 'albert'"),
        (checkpoint, TakeLayers(12), RecipeError, "fewer than the 2 layers"),
        (checkpoint, TakeLayers(which=(1, 3)), RecipeError, "fewer than the 2 layers"),
    ):
        steps = []
        with pytest.raises(error, match=message):
            compress(
                *(source, Recipe.of([wrong])),
                data=data,
                out=tmp_path / "x",
                events=lambda e, steps=steps: steps.append(type(e)),
                **QUICK,
            )
        assert Step not in steps
        assert not (tmp_path / ".x.work").exists()


@pytest.mark.parametrize("error", [RecipeError, CheckpointError])
def test_an_alternative_that_does_not_suit_the_model_ends_no_other(
    error, checkpoint, data, tmp_path, monkeypatch
):
    notes = scored_while(error("Nothing to prune."), checkpoint, data, tmp_path / "x", monkeypatch)
    assert "prune: Nothing to prune." in notes
    assert any(note.startswith("prune-2: accuracy") for note in notes)


def test_what_concerns_every_alternative_ends_them_all(checkpoint, data, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="disk"):
        scored_while(OutputError("A full disk."), checkpoint, data, tmp_path / "x", monkeypatch)


def scored_while(error, checkpoint, data, out, monkeypatch):
    """The notes of a run with two alternatives, of which the first raises `error`."""
    whole, first = chain.apply, Prune(0.3, criterion="random", refit="none")

    def fails(job, step, source, folder):
        if step == first:
            raise error
        return whole(job, step, source, folder)

    monkeypatch.setattr(chain, "apply", fails)
    return scored(checkpoint, data, out, AnyOf(((first,), (PRUNE,))))


def test_a_shared_step_that_fails_fails_once(checkpoint, data, tmp_path, monkeypatch):
    whole, tried = chain.apply, []

    def fails(job, step, source, folder):
        if step.name() != "prune":
            return whole(job, step, source, folder)
        tried.append(step)
        raise PassError("The loss is nan.")

    monkeypatch.setattr(chain, "apply", fails)
    rows = []

    def events(event):
        if isinstance(event, Note) and event.text.startswith("prune"):
            rows.append(event.text)

    with pytest.raises(PassError, match="loss is nan"):
        compress(
            checkpoint,
            Recipe.of([PRUNE, "int8"], runtime="onnxruntime"),
            data=data,
            out=tmp_path / "x",
            events=events,
            **QUICK,
        )
    assert len(tried) == 1
    assert rows == ["prune: The loss is nan."]


def measured(*names, errors=(), probe=None):
    """The rows of both baselines and of INT8 candidates `names`, timed and probed; nothing is judged yet."""
    models = [
        Model(Candidate(name, name, "onnxruntime"), Answers("int8" if name in names else "fp32", 1))
        for name in (EAGER, "ort-fp32", *names)
    ]
    times = {
        model.name: Measured(model.name, failure=WorkerError("killed") if model.name in errors else None)
        for model in models
    }
    evaluator = SimpleNamespace(
        measure=lambda models: Measurement(times),
        roofline=lambda models: (None, {}, []),
        labelled=SimpleNamespace(encoded=None),
        probe=probe,
    )
    return chain.measure(SimpleNamespace(evaluator=evaluator, events=silent), models, names)


@pytest.mark.parametrize("name", [EAGER, "ort-fp32"])
def test_a_baseline_that_fails_while_timed_ends_the_run(name):
    with pytest.raises(WorkerError, match=f"the baseline {name}, received an error: killed"):
        measured("int8", errors=[name])


def test_a_candidate_that_fails_while_probed_is_an_error_and_the_others_go_on():
    def probe(candidate):
        if candidate.name == "bad":
            raise WorkerError("It ended with code -9.", hint="Give it more memory.")
        return {"neighbours": {"invariant": True}}

    bad, good = measured("bad", "good", probe=probe).rows[2:]
    assert bad.verdict == "error"
    assert "ended with code -9. Give it more memory." in bad.reasons[0]
    assert good.probes["neighbours"]["invariant"]


def test_a_model_that_could_not_be_made_has_a_row_and_is_neither_timed_nor_judged():
    failed = Failure("prune", PassError("The loss is nan."))
    row = failed_row(failed.name, failed.error)
    rows = [*measured("int8", probe=lambda candidate: {}).rows, row]
    judged = chain.judge(SimpleNamespace(events=silent), Gate(None), rows, ["int8", "prune"])
    assert [row.verdict for row in judged] == ["baseline", "baseline", "failed", "error"]
    assert judged[-1].reasons == ["The loss is nan."]
