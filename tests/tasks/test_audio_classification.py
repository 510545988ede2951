from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from optkit.benchmarking.opened_models import open_model, reads_text, synthetic, takes_images
from optkit.benchmarking.reference import compare
from optkit.benchmarking.reference.tasks import reference_of
from optkit.core.artifact import Artifact
from optkit.data import audio
from optkit.errors import CheckpointError, DataError, OptkitError
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import sound_model, sounds_data

KINDS = ("wav2vec2", "audio-spectrogram-transformer", "whisper")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {kind: Artifact.open(sound_model(folder / kind, kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return [str(f) for f in sorted(sounds_data(tmp_path_factory.mktemp("data"), 2, 4).rglob("*.wav"))]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_hears_and_answers_the_same(kind, models, files):
    """Files of many kinds, and the outputs of sounds of unequal lengths that are answered together."""
    task = open_task(models[kind])
    theirs = reference_of(task)(models[kind].path)
    compare.provoked(theirs, task)
    rows = theirs.rows(files)
    compare.rows(rows, task.encode(files).arrays, files, theirs)
    expected = theirs.outputs(rows, files)
    with open_session(models[kind]) as session:
        assert session.inputs[0].shape == ("batch", *task.encoder.shape)
        own = infer_all(session, task.encode(files), 8, 4096)
    assert compare.outputs(expected, own, lambda i: []) == []
    compare.answers(theirs, task, own, files)


def test_features_that_differ_are_an_error(models, files, monkeypatch):
    task = open_task(models["wav2vec2"])
    theirs = reference_of(task)(models["wav2vec2"].path)
    monkeypatch.setitem(task.encoder._settings, "do_normalize", False)
    with pytest.raises(CheckpointError, match="other input_values of a provoking file"):
        compare.provoked(theirs, task)


def test_sounds_share_a_batch_where_they_are_equally_long(models):
    task = open_task(models["wav2vec2"])
    encoded = task.encode([audio.clip(i, 4000, seconds) for i, seconds in enumerate((0.3, 0.5, 0.3, 0.3))])
    assert sorted(sorted(batch.tolist()) for batch in encoded.batches(8, 4096)) == [[0, 2, 3], [1]]
    assert encoded.tokens.tolist() == [3, 6, 3, 3]


@pytest.fixture(scope="module")
def exported(models, tmp_path_factory):
    task = open_task(models["wav2vec2"])
    return apply(
        make("export-onnx", {}), models["wav2vec2"], tmp_path_factory.mktemp("x") / "o", make_context(task)
    )


@pytest.mark.parametrize("name", ["quantize-dynamic", "open-vino"])
def test_graphs_answer_nearly_the_same(name, exported, tmp_path):
    task = open_task(exported)
    made = apply(make(name, {}), exported, tmp_path / "made", make_context(task))
    encoded = task.encode(task.probes(["x"] * 4))
    with open_session(exported) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()


@pytest.mark.parametrize("name", ["prune", "prune-width", "prune-vocabulary", "take-layers", "distill"])
def test_passes_that_do_not_take_sound_refuse_before_any_work(name, models):
    task = open_task(models["wav2vec2"])
    parameters = {"layers": 1} if name == "take-layers" else {}
    with pytest.raises(OptkitError):
        make(name, parameters).check(models["wav2vec2"], task)


def test_a_request_holds_a_file_and_never_a_path(models):
    task = open_task(models["wav2vec2"])
    content = audio.wav(audio.clip(0, 44100, 2.0), 44100)
    item = {"b64": base64.b64encode(content).decode()}
    assert task.from_json(item) == content == task.from_fields([item["b64"]]) == task.from_fields([content])
    stored = task.to_json(content)
    assert len(json.dumps(stored)) < 32_768
    np.testing.assert_allclose(
        audio.samples(task.from_json(stored), 4000), audio.samples(content, 4000), atol=1e-4
    )
    for wrong in ("/etc/passwd", {"b64": 3}, {"b64": "?"}, {}):
        with pytest.raises(DataError):
            task.from_json(wrong)


def test_rows_are_recognised_by_a_column_of_audio(models, files):
    from datasets import Dataset

    task = open_task(models["wav2vec2"])
    rows = Dataset.from_dict({"file_name": files, "emotion": ["high", "low"] * 3})
    assert type(task).fits(rows, Columns())
    assert task.read(rows, Columns()).references == [0, 1] * 3
    assert not type(task).fits(Dataset.from_dict({"file_name": ["x.png"], "label": ["a"]}), Columns())
    assert not type(task).fits(Dataset.from_dict({"text": ["x"], "label": ["a"]}), Columns())


def test_bench_makes_sounds_where_there_is_no_data(models, tmp_path):
    opened = open_model(str(models["wav2vec2"].path), tmp_path)
    assert reads_text(opened)
    assert not takes_images(opened)
    assert len(synthetic([opened]).arrays["input_values"]) == 8


def test_a_model_of_one_output_is_refused(tmp_path):
    labels = {"id2label": {0: "only"}, "label2id": {"only": 0}}
    with pytest.raises(CheckpointError, match="at least two labels"):
        open_task(Artifact.open(sound_model(tmp_path / "m", **labels)))
