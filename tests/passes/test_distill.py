"""The pass: the student comes nearer to its teacher, resumes, and refuses a teacher that does not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from optkit.compression.recipe import Recipe
from optkit.core.artifact import Artifact, seal
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply
from optkit.passes.context import make_context
from optkit.passes.distill import Distill
from optkit.passes.distillation import loss
from optkit.passes.prune import Prune
from optkit.passes.take_layers import TakeLayers
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import decoder, embedder
from tests.tasks.pictures import detector, masks_data, segmenter, shapes_data

QUICK = {"epochs": 2.0, "batch": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def teacher(checkpoint, tmp_path_factory):
    """A teacher whose answers spread: the head of the random one is scaled until they do."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("spread") / "teacher")
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= 8
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def pruned(teacher, context, tmp_path_factory) -> Artifact:
    step = Prune(0.7, criterion="random", refit="none")
    return apply(step, fetch(teacher), tmp_path_factory.mktemp("d") / "pruned", context)


@pytest.fixture
def taught(context, teacher):
    """The context of a chain that started from `teacher`."""
    from dataclasses import replace

    return replace(context, origin=str(teacher))


def weights(artifact):
    return (artifact.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "parts", [{"hidden": 0.0}, {"hidden": 1.0}, {"hidden": 0.0, "relations": 1.0}, {"labels": 0.01}]
)
def test_the_student_comes_nearer_and_the_best_moment_is_kept(parts, pruned, taught, tmp_path):
    made = apply(Distill(**parts, **{**QUICK, "epochs": 6.0}), pruned, tmp_path / "x", taught)
    notes = made.lineage[-1]["notes"]
    history = notes["history"]
    assert min(e["distance"] for e in history) < 0.5 * notes["distance_before"]
    assert notes["hidden_states"] is (parts.get("hidden", 1.0) > 0)
    assert [e["epoch"] for e in history] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    kept = min((-e["score"], e["distance"]) for e in history)
    assert notes["score"] == -kept[0]
    with open_session(made) as student, open_session(fetch(taught.origin)) as other:
        encoded = taught.labelled("validation").encoded
        found, wanted = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (student, other))
    assert ((found - wanted) ** 2).mean() == pytest.approx(kept[1], rel=1e-3)
    assert not list(tmp_path.glob(".distill*"))


@pytest.mark.parametrize("kind", ["yolos", "segformer"])
def test_detectors_and_segmenters_are_taught(kind, tmp_path):
    """Query by query, pixel by pixel: a student whose weights were shaken comes back to its teacher."""
    from safetensors.torch import load_file, save_file

    finds = kind == "yolos"
    folder = (detector if finds else segmenter)(tmp_path / "teacher", kind)
    data = (shapes_data if finds else masks_data)(tmp_path / "data", {"train": 32, "validation": 4})
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    if finds:
        with pytest.raises(RecipeError, match="images of one size to learn from"):
            Distill().check(fetch(folder), open_task(fetch(folder)))
        settings["size"] = {"height": 64, "width": 96}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    student = shutil.copytree(folder, tmp_path / "student")
    generator, weights = torch.Generator().manual_seed(0), load_file(folder / "model.safetensors")
    spread = {n: 4 * w if w.is_floating_point() and w.dim() > 1 else w for n, w in weights.items()}
    shaken = {
        n: w + 0.3 * w.std() * torch.randn(w.shape, generator=generator) if w is not weights[n] else w
        for n, w in spread.items()
    }
    for place, values in ((folder, spread), (student, shaken)):
        save_file(values, place / "model.safetensors", {"format": "pt"})
    source = fetch(student)
    context = make_context(open_task(source), Data(str(data)), origin=str(folder))
    notes = apply(Distill(**QUICK), source, tmp_path / "x", context).lineage[-1]["notes"]
    assert min(e["distance"] for e in notes["history"]) < 0.7 * notes["distance_before"]
    assert notes["hidden_states"] is False


@pytest.mark.parametrize("aware", [0.0, 1.5])
def test_a_killed_run_resumes_and_ends_with_the_same_weights(aware, pruned, taught, tmp_path, monkeypatch):
    from optkit.passes.distillation import train

    step = Distill(**QUICK, quantization_aware=aware)
    whole = apply(step, pruned, tmp_path / "whole", taught)
    plain, calls = train._judged, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:  # before training, after the first epoch, after the second
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(train, "_judged", killed)
    with pytest.raises(KeyboardInterrupt):
        apply(step, pruned, tmp_path / "x", taught)
    assert not (tmp_path / "x").exists()
    monkeypatch.setattr(train, "_judged", plain)
    losses = []
    monkeypatch.setattr(loss, "soft_labels", _counted(loss.soft_labels, losses))
    resumed = apply(step, pruned, tmp_path / "x", taught)
    assert weights(resumed) == weights(whole)
    examples = resumed.lineage[-1]["notes"]["examples"]
    assert len(losses) == -(-examples // 8)  # the second epoch only


def test_what_a_kill_left_is_not_taken_up_with_another_validation_split(
    pruned, taught, tmp_path, monkeypatch
):
    from dataclasses import replace

    from optkit.passes.distillation import train

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_judged", killed)
    for labelled in (taught.labelled, lambda split: taught.labelled("train")):
        with pytest.raises(KeyboardInterrupt):
            apply(Distill(**QUICK), pruned, tmp_path / "x", replace(taught, labelled=labelled))
    assert len(list(tmp_path.glob(".distill.work-*"))) == 2


def test_the_last_epochs_meet_the_rounding_of_int8_and_a_float_checkpoint_comes_out(
    pruned, taught, tmp_path, monkeypatch
):
    from safetensors import safe_open

    from optkit.passes.distillation import train

    plain, answer, steps, looks = train.fake_int8, train._judged, [], []

    def noted(model, on):
        steps.append(on)
        return plain(model, on)

    def judged(student, *others):
        looks.append(steps.pop())  # what was switched on for this look
        return answer(student, *others)

    monkeypatch.setattr(train, "fake_int8", noted)
    monkeypatch.setattr(train, "_judged", judged)
    step = Distill(**{**QUICK, "epochs": 4.0}, quantization_aware=1.0)
    made = apply(step, pruned, tmp_path / "x", taught)
    notes = made.lineage[-1]["notes"]
    each = -(-notes["examples"] // QUICK["batch"])
    assert steps == [False] * 3 * each + [True] * each
    assert looks == [True] * 5
    assert np.isfinite(notes["losses"]).all()
    assert notes["losses"][-1] < 0.5 * notes["losses"][0]
    names = []
    for artifact in (made, pruned):
        with safe_open(artifact.path / "model.safetensors", "pt") as stored:
            names.append(sorted(stored.keys()))
    assert names[0] == names[1]


def test_more_epochs_with_rounding_than_epochs_are_refused():
    with pytest.raises(RecipeError, match="at most the 2 epochs, received 3"):
        Distill(epochs=2.0, quantization_aware=3.0)


def _counted(function, calls):
    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return counted


def test_too_little_text_is_refused(checkpoint, tmp_path):
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", sentences(10))
    source = fetch(checkpoint)
    with pytest.raises(DataError, match="at least 32 training texts to distill on, received"):
        apply(Distill(), source, tmp_path / "x", make_context(open_task(source), Data(str(tmp_path))))


def test_a_teacher_with_other_labels_is_refused(pruned, teacher, taught, tmp_path):
    other = shutil.copytree(teacher, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": "cat", "1": "dog"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match="student's labels.*cat"):
        apply(Distill(teacher=str(other)), pruned, tmp_path / "x", taught)


def test_a_teacher_whose_vectors_are_longer_is_refused(tmp_path):
    from optkit.models.checkpoint import load_model
    from optkit.passes.distillation.goal import Goal

    one = load_model(embedder(tmp_path / "one", pooling={"pooling_mode": "mean"}))
    two = load_model(embedder(tmp_path / "two", pooling={"pooling_mode": ["cls", "mean"]}))
    with pytest.raises(RecipeError, match="answers of the student's shape"):
        Goal(one, two)


def test_a_teacher_may_be_on_the_hub(teacher, pruned, tmp_path, monkeypatch):
    monkeypatch.setattr("optkit.models.checkpoint._download", lambda name, _: teacher)
    step = Distill(teacher="someone/their-model")
    step.check(pruned, open_task(pruned))
    assert step.reads() == {"teacher": fetch(teacher).fingerprint()}


def test_a_teacher_with_other_tokens_is_refused(pruned, teacher, taught, tmp_path):
    other = shutil.copytree(teacher, tmp_path / "other")
    tokens = json.loads((other / "tokenizer.json").read_text())
    tokens["model"]["vocab"]["another"] = len(tokens["model"]["vocab"])
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(RecipeError, match="other tokens"):
        apply(Distill(teacher=str(other)), pruned, tmp_path / "x", taught)


def test_a_loss_that_is_no_number_stops_the_run(pruned, taught, tmp_path, monkeypatch):
    monkeypatch.setattr(loss, "soft_labels", lambda student, *_: student.sum() * float("nan"))
    with pytest.raises(PassError, match="loss is nan at step"):
        apply(Distill(**QUICK), pruned, tmp_path / "x", taught)
    assert not (tmp_path / "x").exists()


def test_the_order_in_a_recipe():
    chain = Recipe.of([Prune(0.5), Distill(), "int8"], runtime="onnxruntime").chains()[0]
    assert [step.name() for step in chain] == ["prune", "distill", "export-onnx", "quantize-dynamic"]
    with pytest.raises(RecipeError, match="'distill' after the last 'prune'"):
        Recipe.of([Distill(), Prune(0.5), "int8"])


def test_soft_labels_are_the_divergence_of_the_two_distributions():
    from scipy.stats import entropy

    random = np.random.default_rng(0)
    a, b = (random.normal(size=(5, 3)) for _ in range(2))
    soft = [np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (a, b)]
    expected = 4 * np.mean([entropy(t, s) for s, t in zip(*soft)])
    found = loss.soft_labels(torch.from_numpy(a), torch.from_numpy(b), 2.0)
    assert float(found) == pytest.approx(expected)


def test_hidden_states_leave_padding_out():
    teacher = [torch.full((1, 2, 4), float(i)) for i in (0, 2, 4)]
    student = [torch.zeros(1, 2, 4) for _ in range(3)]
    student[1][0, 1] = 99.0  # padding
    mask = torch.tensor([[1, 0]])
    assert float(loss.hidden_states(student, teacher, mask)) == 0 + 2**2 + 4**2


def test_a_shallow_encoder_of_texts_learns_the_vectors_of_the_whole_one(tmp_path):
    source = fetch(embedder(tmp_path / "source", pooling={"pooling_mode": "mean"}))
    rows = [
        {"sentence1": a["text"], "sentence2": "a fine film", "score": i % 6}
        for i, a in enumerate(sentences(48))
    ]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    own = make_context(open_task(source), Data(str(tmp_path)), origin=str(source.path))
    shallow = apply(TakeLayers(1), source, tmp_path / "shallow", own)
    made = apply(Distill(**QUICK), shallow, tmp_path / "x", own)
    notes = made.lineage[-1]["notes"]
    assert min(e["distance"] for e in notes["history"]) < notes["distance_before"]
    assert open_task(made).name == "embeddings"


@pytest.mark.parametrize("most", [1 << 30, 0])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_language_model_learns_the_teachers_distribution(kind, most, tmp_path, monkeypatch):
    from optkit.passes.distillation import teacher_cache

    monkeypatch.setattr(teacher_cache, "MOST_ANSWERS", most)
    source = fetch(decoder(tmp_path / "source", kind))
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", [{"text": row["text"]} for row in sentences(40)])
    own = make_context(open_task(source), Data(str(tmp_path)), origin=str(source.path))
    student = apply(Prune(0.3, criterion="random", refit="none"), source, tmp_path / "student", own)
    made = apply(Distill(**QUICK), student, tmp_path / "x", own)
    notes = made.lineage[-1]["notes"]
    assert notes["lessons"] == ("stored" if most else "live")
    assert notes["metric"] == "neg_perplexity"
    assert notes["score"] == max(e["score"] for e in notes["history"])
    assert min(e["distance"] for e in notes["history"]) < notes["distance_before"]
    with pytest.raises(RecipeError, match="labels = 0"):
        apply(Distill(labels=1.0, **QUICK), student, tmp_path / "y", own)


def test_a_teacher_of_ours_that_was_changed_by_hand_is_refused(checkpoint, context, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "x")
    seal(folder, fetch(checkpoint), {"pass": "finetune", "parameters": {}, "notes": {}, "seconds": 0.0})
    step = Distill(teacher=str(folder))
    step.check(fetch(checkpoint), context.task)
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(CheckpointError, match="sha256 differs"):
        step.check(fetch(checkpoint), context.task)
