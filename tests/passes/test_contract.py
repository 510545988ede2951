"""What every pass promises. A new pass is in here by being there."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

from optkit.core.files import sha256
from optkit.errors import RecipeError
from optkit.passes import PASSES
from optkit.passes.base import apply
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.gpu import install as fakes
from tests.gpu.fake_cuda import Machine

#: One takes no model of this contract's task, and has its own test.
PASSES = sorted(item for item in PASSES.items() if item[0] != "open-vino-stateful")
#: Passes on the way to TensorRT: they take graphs of standard operators.
PLAIN = ("tensorrt", "quantize-tensorrt")


@pytest.fixture(params=[cls for _, cls in PASSES], ids=[name for name, _ in PASSES])
def cls(request, monkeypatch, tmp_path):
    if request.param.name() == "tensorrt":
        fakes.tensorrt(monkeypatch, tmp_path, Machine(), "11")
    return request.param


@pytest.fixture
def source_of(cls, source_of, plain):
    return {**source_of, "onnx": plain} if cls.name() in PLAIN else source_of


@pytest.fixture
def result(cls, source_of, context, tmp_path):
    source = source_of[sorted(cls.accepts)[0]]
    before = {p.name: sha256(p) for p in source.path.iterdir()}
    made = apply(cls(), source, tmp_path / "made", context)
    assert {p.name: sha256(p) for p in source.path.iterdir()} == before, "the source was changed"
    return source, made


def test_fields_have_defaults_and_meanings(cls):
    for f in fields(cls):
        assert f.metadata["doc"], f"{cls.name()}.{f.name} has no meaning"
    assert cls.summary().endswith(".")
    json.dumps(cls().parameters())


def test_the_result_is_a_whole_artifact(cls, result):
    source, made = result
    made.verify()
    assert made.format == cls.produces
    assert [s["pass"] for s in made.lineage] == [*[s["pass"] for s in source.lineage], cls.name()]
    assert made.lineage[-1]["parameters"] == cls().parameters()
    json.dumps(made.manifest)


def test_the_result_answers_like_its_source(cls, result, context):
    """Random weights, so only roughly; that a real model keeps its accuracy is shown elsewhere."""
    source, made = result
    if made.precision == "bf16":
        pytest.skip("ONNX Runtime has no bf16 kernels on the CPU")
    answers = []
    for artifact in (source, made):  # each reads texts by its own tokens
        encoded = open_task(artifact).read(context.rows("test"), Columns()).encoded
        with open_session(artifact) as session:
            answers.append(np.stack(infer_all(session, encoded, 8, 512)["logits"]))
    before, after = answers
    assert np.isfinite(after).all()
    assert not cls.keeps_answers or np.abs(after - before).max() < 0.15 * np.abs(before).max() + 1e-3


def test_the_result_serves_its_task(result):
    _, made = result
    assert open_task(made).name == "text-classification"


def test_another_format_is_refused(cls, source_of, context, tmp_path):
    for format, source in source_of.items():
        if format not in cls.accepts:
            with pytest.raises(RecipeError, match="takes"):
                apply(cls(), source, tmp_path / "made", context)
            assert not (tmp_path / "made").exists()


def test_running_twice_gives_the_same_model(cls, source_of, context, tmp_path, real_exports):
    source = source_of[sorted(cls.accepts)[0]]
    first, second = (apply(cls(), source, tmp_path / n, context) for n in "ab")
    assert first.manifest["files"] == second.manifest["files"]
