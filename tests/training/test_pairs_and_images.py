"""Fine-tuning embeddings and image classification: what is learned, and that the result goes on."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from safetensors.numpy import save_file

from optkit import load
from optkit.core.artifact import Artifact
from optkit.errors import DataError, PassError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task, task_to_train
from optkit.tasks.embeddings import Embeddings
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import WORDS, write_jsonl
from tests.tasks.builders import add_dense, digits_data, embedder, vit
from tests.training.conftest import interrupted


def score_of(artifact, data, split):
    from optkit.data.dataset import Data

    task = open_task(artifact)
    read = task.read(Data(str(data)).split(split), Columns())
    with open_session(artifact) as session:
        return task.score(task.answers(infer_all(session, read.encoded, 32, 4096)), read.references)


def test_a_vit_learns_digits(tmp_path):
    data = digits_data(tmp_path / "data", train=700, test=200)
    source = vit(tmp_path / "start", labels=("x", "y"))
    settings = FinetuneSettings(epochs=12, batch=32, learning_rate=2e-3)
    made = finetune(source, data, tmp_path / "out", settings)
    assert made.task == "image-classification"
    assert [open_task(made).labels[i] for i in (0, 9)] == ["0", "9"]
    assert (made.path / "preprocessor_config.json").exists()
    assert score_of(made, data, "test") > 0.6  # 0.1 by chance


def test_a_vit_resumes_to_the_same_weights(tmp_path):
    """Its weights have other names on disk than in memory; read by the wrong ones, nothing is read."""
    data = digits_data(tmp_path / "data", train=480, test=64)
    source = vit(tmp_path / "start", labels=("x", "y"))
    settings = FinetuneSettings(epochs=3, batch=32, learning_rate=2e-3)
    whole = finetune(source, data, tmp_path / "whole", settings)
    interrupted(source, data, tmp_path / "again", settings, after=0.7)
    again = finetune(source, data, tmp_path / "again", settings)
    assert again.manifest["files"]["model.safetensors"] == whole.manifest["files"]["model.safetensors"]
    notes = whole.lineage[-1]["notes"]
    assert score_of(whole, data, "validation") == pytest.approx(notes["score"], abs=1e-6)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    data = digits_data(tmp_path / "data", train=480, test=64)
    source = vit(tmp_path / "start", labels=("x", "y"))
    settings = FinetuneSettings(epochs=2, batch=32)

    def damage():
        (work,) = tmp_path.glob(".out.work*")
        for file in work.glob("checkpoint-*/model.safetensors"):
            save_file({"another": np.zeros(1, dtype=np.float32)}, file)

    interrupted(source, data, tmp_path / "out", settings, after=0.6, before_it_ends=damage)
    with pytest.raises(PassError, match="another one") as raised:
        finetune(source, data, tmp_path / "out", settings)
    assert "Delete" in raised.value.hint


def test_embeddings_learn_a_similarity(tmp_path):
    """The score of a pair is the share of words both have: what a random encoder does not know."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for split, count in (("train", 400), ("validation", 100)):
        rows = []
        for _ in range(count):
            a, b = rng.choice(WORDS, 4), rng.choice(WORDS, 4)
            same = rng.integers(0, 5)
            b[:same] = a[:same]
            shared = len(set(a) & set(b)) / len(set(a) | set(b))
            rows.append({"text": " ".join(a), "text_pair": " ".join(b), "label": 5 * shared})
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    source = embedder(tmp_path / "start", pooling={"pooling_mode": "mean"})
    before = score_of(Artifact.open(source), tmp_path / "data", "validation")
    settings = FinetuneSettings(epochs=4, batch=16, learning_rate=2e-3)
    made = finetune(source, tmp_path / "data", tmp_path / "out", settings, task="embeddings")
    after = score_of(made, tmp_path / "data", "validation")
    assert after > before + 0.05
    assert made.lineage[-1]["notes"]["score"] == pytest.approx(after, abs=1e-3)
    assert json.loads((made.path / "modules.json").read_text())[1]["path"] == "1_Pooling"


def test_a_sentence_transformers_folder_is_saved_as_such(tmp_path, monkeypatch):
    """The library itself opens what fine-tuning made, and gives the vectors that optkit gives.

    Uploaded and fetched again it is links to ../../blobs, which work too.
    """
    library = pytest.importorskip("sentence_transformers")
    rows = [{"text": "a fine film", "text_pair": "good", "label": 5.0}]
    rows += [{"text": "dull", "text_pair": "the plot is thin", "label": 1.0}]
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows * 4)
    source = embedder(tmp_path / "start", pooling={"pooling_mode": "max"})
    add_dense(source, 32, 12)
    settings = FinetuneSettings(epochs=1, batch=8)
    made = finetune(source, tmp_path / "data", tmp_path / "out", settings, task="embeddings")
    texts = ["a fine film", "the plot is thin and dull"]
    expected = library.SentenceTransformer(str(made.path), device="cpu").encode(texts)
    for artifact in (
        made,
        apply(make("export-onnx", {}), made, tmp_path / "onnx", make_context(open_task(made))),
    ):
        with load(artifact.path) as model:
            np.testing.assert_allclose(np.stack(model.predict(texts)), expected, atol=1e-4)
        assert {"modules.json", "1_Pooling/config.json"} <= set(artifact.manifest["files"])
    in_hub_cache(made.path, tmp_path / "hub", "me/it")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    fetched = fetch("me/it")
    assert (fetched.path / "1_Pooling" / "config.json").is_symlink()
    fetched.verify()
    with load(fetched.path, runtime="torch") as model:
        np.testing.assert_allclose(np.stack(model.predict(texts)), expected, atol=1e-4)
    copied = apply(make("export-onnx", {}), fetched, tmp_path / "again", make_context(open_task(fetched)))
    assert not [file for file in copied.path.rglob("*") if file.is_symlink()]


def in_hub_cache(folder, cache, name):
    """The files of `folder` as huggingface_hub keeps what it has fetched: links to blobs."""
    home, revision = cache / f"models--{name.replace('/', '--')}", "0123456789" * 4
    for part in ("blobs", "refs", f"snapshots/{revision}"):
        (home / part).mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    for number, file in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        blob = home / "blobs" / f"{number:040x}"
        blob.write_bytes(file.read_bytes())
        link = home / "snapshots" / revision / file.relative_to(folder)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(*[".."] * (len(file.relative_to(folder).parts) + 1), "blobs", blob.name))


def test_the_loss_is_that_of_sentence_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.losses import CosineSimilarityLoss

    source = Artifact.open(embedder(tmp_path / "start", pooling={"pooling_mode": "mean"}))
    rows = datasets.Dataset.from_dict(
        {"text": ["a fine film", "dull"], "text_pair": ["good", "the plot is thin"], "label": [4.0, 1.0]}
    )
    config = Embeddings.training_config(rows, Columns())
    task = Embeddings.for_training(source, config, None)
    labelled = task.to_learn(task.read(rows, Columns()), None)
    import transformers

    def load(auto_class):
        return getattr(transformers, auto_class).from_pretrained(str(source.path))

    network = task.network(source, config, load).eval()
    batch = task.collate(labelled.encoded, task.targets(labelled), [0, 1])
    inputs = {n: torch.from_numpy(v) for n, v in batch.items() if n in (*network.inputs, "labels")}
    reference = library.SentenceTransformer(str(source.path), device="cpu").eval()
    features = [reference.tokenize(list(rows[name])) for name in ("text", "text_pair")]
    expected = CosineSimilarityLoss(reference)(features, torch.tensor([1.0, 0.25]))
    assert network(**inputs)["loss"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_one_similarity_only_is_refused():
    rows = datasets.Dataset.from_dict({"text": ["a"], "text_pair": ["b"], "label": [1.0]})
    with pytest.raises(DataError, match="different similarities"):
        Embeddings.training_config(rows, Columns())


def test_columns_tell_images_and_never_embeddings():
    images = datasets.Dataset.from_dict({"image": [b"P5"], "label": [1]})
    paths = datasets.Dataset.from_dict({"path": ["a/b.PNG"], "label": [1]})
    pairs = datasets.Dataset.from_dict({"text": ["a"], "text_pair": ["b"], "path": ["x.txt"], "label": [0.5]})
    assert [task_to_train(None, rows, Columns()).name for rows in (images, paths, pairs)] == [
        "image-classification",
        "image-classification",
        "text-classification",
    ]
