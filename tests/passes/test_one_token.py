"""The last layer for one token: what is cut, where nothing may be, and that answers stay equal."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from optkit.benchmarking.roofline import count
from optkit.models.checkpoint import fetch
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.one_token import keep_first_token
from optkit.runtimes.base import infer_all, open_session


@pytest.fixture(scope="module")
def whole(checkpoint, context, tmp_path_factory):
    """The tiny checkpoint with every token kept to the end."""
    step = make("export-onnx", {"one_token": False})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("whole") / "onnx", context)


def test_the_last_layer_is_cut_and_answers_stay_equal(whole, exported, context):
    assert whole.lineage[-1]["notes"]["one_token_operators"] == 0
    # Query and its bias, attention, output projection, FFN of two products with GELU, two residuals, two
    # LayerNorms, and four biases in all.
    assert exported.lineage[-1]["notes"]["one_token_operators"] == 14
    encoded = context.encoded("test", None)
    with open_session(whole) as a, open_session(exported) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_the_roofline_counts_what_is_left(whole, exported):
    """Per layer 4 products of 32 x 32 and 2 of 32 x 64 with each token; key and value alone in the last."""
    square, tokens = 2.0 * 32 * 32, 16
    every, cut = (count(graph.load_graph(a.path), 1, tokens).operations for a in (whole, exported))
    layer = 8 * square * tokens
    scores = 4.0 * tokens * tokens * 32
    assert every - cut == pytest.approx(layer * 6 / 8 * (1 - 1 / tokens) + scores * (1 - 1 / tokens))


def test_nothing_is_cut_where_every_token_is_read():
    model = _graph(read="all")
    assert keep_first_token(model) == 0
    assert not any(node.op_type == "Slice" for node in model.graph.node)


@pytest.mark.parametrize("read", [0, 1])
def test_only_a_reader_of_the_first_token_allows_the_cut(read):
    model = _graph(read)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)}
    before = _run(model, feeds)
    assert (keep_first_token(model) > 0) == (read == 0)
    np.testing.assert_allclose(_run(model, feeds), before, atol=1e-6)


def test_of_what_is_added_to_the_scores_the_first_row_remains():
    model = _graph(0, window=2)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)}
    before = _run(model, feeds)
    assert np.abs(before - _run(_graph(0), feeds)).max() > 1e-3  # the window matters to the first token
    assert keep_first_token(model) > 0
    np.testing.assert_allclose(_run(model, feeds), before, atol=1e-6)


def _graph(read: int | str, window: int | None = None):
    """Attention over (batch, tokens, 8), a product and a residual; token `read`, or all, is the answer."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    attention = helper.make_node(
        "MultiHeadAttention",
        ["x", "x", "x", *(["", "", "band"] if window else [])],
        ["mixed"],
        "a",
        domain="com.microsoft",
        num_heads=2,
    )
    apart = np.abs(np.arange(5)[:, None] - np.arange(5)[None, :])
    band = np.where(apart < (window or 5), 0.0, -10000.0).astype(np.float32)[None, None]
    nodes = [
        attention,
        helper.make_node("MatMul", ["mixed", "weight"], ["product"], "m"),
        helper.make_node("Add", ["product", "x"], ["sum"], "r"),
    ]
    if read != "all":
        nodes.append(helper.make_node("Gather", ["sum", "index"], ["y"], "g", axis=1))
    out = "sum" if read == "all" else "y"
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 8])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array(weight, "weight"),
                numpy_helper.from_array(band, "band"),
                numpy_helper.from_array(np.int64(0 if read == "all" else read), "index"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)],
    )
    model.ir_version = 10
    return model


def _run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]
