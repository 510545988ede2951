from __future__ import annotations

import json
import subprocess
import sys

import datasets
import numpy as np
import pytest
from PIL import Image

import optkit
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import digits, digits_data, vit

PLAN = {"rounds": 1, "processes": 1, "threads": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return vit(tmp_path_factory.mktemp("vit") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digits_data(tmp_path_factory.mktemp("digits") / "idx")


@pytest.fixture(scope="module")
def task(checkpoint):
    return open_task(fetch(checkpoint))


@pytest.fixture(scope="module")
def exported(checkpoint, task, tmp_path_factory):
    final = tmp_path_factory.mktemp("x") / "onnx"
    return apply(make("export-onnx", {}), fetch(checkpoint), final, make_context(task))


def test_each_layer_of_a_vit_has_one_fused_attention_node(exported):
    notes = exported.lineage[-1]["notes"]
    assert notes["attention"] == "fused"
    assert notes["operators"]["MultiHeadAttention"] == 2
    assert "Softmax" not in notes["operators"]
    assert notes["max_difference"] < 1e-4
    assert notes["checked_examples"] == 4  # no data: samples of the task's own


def test_the_batch_stays_dynamic_and_pixels_are_fixed(exported, checkpoint):
    with open_session(exported) as session, open_session(fetch(checkpoint)) as torch_session:
        assert session.inputs[0].shape == ("batch", 1, 8, 8)
        assert torch_session.inputs == session.inputs
        for batch in (1, 3, 7):
            pixels = np.random.default_rng(batch).standard_normal((batch, 1, 8, 8)).astype(np.float32)
            one, other = (s.infer({"pixel_values": pixels})["logits"] for s in (session, torch_session))
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_three_channels_and_three_labels_are_not_mixed_up(tmp_path):
    """An output as wide as the input has channels is no value per token."""
    source = fetch(vit(tmp_path / "m", labels=("a", "b", "c"), channels=3))
    task = open_task(source)
    made = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(task))
    with open_session(made) as session:
        outputs = infer_all(session, task.encode(task.samples()), 2, 4096)
    assert [row.shape for row in outputs["logits"]] == [(3,)] * 4


@pytest.mark.parametrize("name", ["quantize-dynamic", "quantize-static"])
def test_int8_answers_nearly_the_same(name, exported, task, data, tmp_path):
    context = make_context(task, Data(str(data)))
    made = apply(make(name, {}), exported, tmp_path / "int8", context)
    encoded = context.encoded("test", None)
    with open_session(exported) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert made.lineage[-1]["notes"]["quantized_matmuls"] >= 10  # query, key and value are one
    assert np.abs(after - before).max() < 0.15 * np.abs(before).max()


def test_labels_match_by_name_or_number(task):
    image = np.zeros((8, 8), dtype=np.uint8)
    raw = [b"P5 8 8 255\n" + image.tobytes()] * 2
    assert task.read(
        datasets.Dataset.from_dict({"image": raw, "label": ["3", "4"]}), Columns()
    ).references == [3, 4]
    read = task.read(datasets.Dataset.from_dict({"image": raw, "label": [3, 4]}), Columns())
    assert read.references == [3, 4]
    assert read.encoded.arrays["pixel_values"][0].shape == (1, 8, 8)
    assert read.inputs == raw  # what the independent baseline opens by itself


def test_compress_bench_and_predict(checkpoint, data, tmp_path):
    from typer.testing import CliRunner

    from optkit.cli import app

    any_score = optkit.Recipe.int8(optkit.Gate(max_drop=None))  # no search for a better one
    report = optkit.compress(checkpoint, any_score, data=data, out=tmp_path / "out", split="test", **PLAN)
    assert report.task == "image-classification"
    assert report.data["examples"] == 60
    assert [(x.batch, x.tokens) for x in report.rows[0].latency] == [(1, "data"), (8, "data")]
    images, _ = digits(3)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    with optkit.load(tmp_path / "out") as model:
        answers = model.predict([str(tmp_path / "one.png"), images[0], Image.fromarray(images[1])])
    assert answers[0].label == answers[1].label
    assert answers[0].score == pytest.approx(answers[1].score)
    assert sum(answers[2].scores.values()) == pytest.approx(1)
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "out"), str(tmp_path / "one.png"), "--json"])
    assert json.loads(done.stdout)["label"] == answers[0].label
    timed = optkit.bench([str(tmp_path / "out"), str(checkpoint)], data=data, split="test", warmup=0, **PLAN)
    assert [row.verdict for row in timed.rows].count("error") == 0
    assert timed.rows[0].score == pytest.approx(next(r.score for r in report.rows if r.name == report.chosen))
    random = optkit.bench([str(tmp_path / "out")], warmup=0, **PLAN)
    assert [str(x.tokens) for x in random.rows[0].latency] == ["1", "1"]


def test_no_torch_is_loaded(exported, tmp_path):
    Image.fromarray(digits(1)[0][0]).save(tmp_path / "one.png")
    model, image = str(exported.path), str(tmp_path / "one.png")
    code = (
        f"import sys, optkit\nprint(optkit.load({model!r}).predict([{image!r}])[0].label)\n"
        "assert not {'torch', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in "0123456789"


def test_a_model_of_one_output_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="at least two labels"):
        open_task(fetch(vit(tmp_path / "m", labels=("only",))))


def test_what_is_no_image_is_named(task, tmp_path):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(DataError, match=r"x\.png.*position 1"):
        task.encode([np.zeros((8, 8), dtype=np.uint8), str(tmp_path / "x.png")])
    with pytest.raises(DataError, match="position 0, received int"):
        task.encode([3])
