"""Query, key and value as one multiply, and no reshapes around attention."""

from __future__ import annotations

import numpy as np
import pytest

from optkit.models.checkpoint import fetch
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.runtimes.base import infer_all, open_session


@pytest.fixture(scope="module")
def apart(checkpoint, context, tmp_path_factory):
    """The tiny checkpoint with three projections per layer."""
    step = make("export-onnx", {"pack_projections": False, "one_token": False})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("apart") / "onnx", context)


@pytest.fixture(scope="module")
def packed(checkpoint, context, tmp_path_factory):
    step = make("export-onnx", {"one_token": False})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("packed") / "onnx", context)


def test_three_projections_become_one(apart, packed):
    before, after = (a.lineage[-1]["notes"]["operators"] for a in (apart, packed))
    assert before["MatMul"] - after["MatMul"] == 2 * 2  # two layers, two products less in each
    assert after["Split"] == 2
    assert packed.lineage[-1]["notes"]["packed_projections"] == 6
    assert "Reshape" not in before
    assert "Reshape" not in after


def test_answers_stay_equal(apart, packed, context):
    encoded = context.encoded("test", None)
    with open_session(apart) as a, open_session(packed) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_where_the_query_is_of_one_token_key_and_value_are_packed(exported):
    names = [n.name for n in graph.load_graph(exported.path).graph.node if n.op_type == "Split"]
    assert [name.split("_")[-2] for name in names] == ["qkv", "kv"]


def test_ffn_only_int8_leaves_packed_projections_in_float(exported, context, tmp_path):
    """Their weight of 32 x 96 is not square either."""
    made = apply(make("quantize-static", {"scope": "ffn", "samples": 8}), exported, tmp_path / "q", context)
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == 2 * 2
