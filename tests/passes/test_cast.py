from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optkit.core.artifact import Artifact
from optkit.errors import PassError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.half_precision import bf16_bits, to_half
from optkit.runtimes.base import open_session


@pytest.fixture(scope="module")
def plain(checkpoint, context, tmp_path_factory):
    step = make("export-onnx", {"attention": "plain"})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("plain") / "onnx", context)


@pytest.fixture(scope="module")
def fp16(plain, context, tmp_path_factory):
    return apply(make("cast-fp16", {}), plain, tmp_path_factory.mktemp("fp16") / "onnx", context)


def feeds_of(session, masks):
    mask = np.array(masks, dtype=np.int64)
    ids = np.arange(mask.size).reshape(mask.shape) % 20 + 5
    all_feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {s.name: all_feeds[s.name] for s in session.inputs}


@pytest.mark.parametrize(
    "masks",
    [
        [[1] * 9],
        [[1] * 9, [1] * 4 + [0] * 5],
        [[0] * 9],
        [[1] * 9, [0] * 9, [1] + [0] * 8],
    ],
    ids=["unpadded", "padded", "masked", "mixed"],
)
def test_fp16_is_finite_and_close(masks, plain, fp16):
    with open_session(plain) as a, open_session(fp16) as b:
        feeds = feeds_of(a, masks)
        before, after = a.infer(feeds)["logits"], b.infer(feeds)["logits"]
    assert np.isfinite(after).all()
    seen = np.array(masks).any(axis=1)
    if seen.any():
        np.testing.assert_allclose(after[seen], before[seen], atol=0.02 * np.abs(before).max())


def test_a_masked_key_has_no_weight(fp16):
    """The logits do not move when only padding does."""
    with open_session(fp16) as session:
        feeds = feeds_of(session, [[1] * 5 + [0] * 4])
        first = session.infer(feeds)["logits"]
        feeds["input_ids"] = np.where(feeds["attention_mask"] == 0, 7, feeds["input_ids"])
        np.testing.assert_array_equal(first, session.infer(feeds)["logits"])


def test_weights_are_half_and_normalization_is_not(fp16):
    model = onnx.load(str(fp16.path / "model.onnx"))
    weights = {t.name: t.data_type for t in model.graph.initializer}
    types = [weights[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    assert types
    assert set(types) == {TensorProto.FLOAT16}
    norms = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    assert norms
    assert {weights[n.input[1]] for n in norms} == {TensorProto.FLOAT}
    assert "IsNaN" not in {n.op_type for n in model.graph.node}
    assert fp16.precision == "fp16"


@pytest.mark.parametrize(("before", "after"), [("fp32", "bf16"), ("int8", None), ("fp8", None)])
def test_a_quantized_graph_keeps_its_precision(before, after, tmp_path):
    assert make("cast-bf16", {}).precision_of(Artifact(tmp_path, {"precision": before})) == after


def test_no_constant_of_the_graph_overflows(fp16):
    model = onnx.load(str(fp16.path / "model.onnx"))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating):
            assert np.isfinite(values).all()
            assert values.min() >= -1e4


def test_bf16_types_the_graph_and_checks_out(plain, context, tmp_path):
    made = apply(make("cast-bf16", {}), plain, tmp_path / "bf16", context)
    model = onnx.load(str(made.path / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    weights = {t.name: t.data_type for t in model.graph.initializer}
    types = {weights[n.input[1]] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights}
    assert types == {TensorProto.BFLOAT16}
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {TensorProto.FLOAT}


def test_the_types_of_the_whole_fp16_graph_fit_together(fp16):
    onnx.checker.check_model(onnx.load(str(fp16.path / "model.onnx")), full_check=True)


def test_a_weight_beyond_fp16_is_refused():
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [1.0, 70000.0])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs, [weight]))
    with pytest.raises(PassError, match="70000"):
        to_half(model, "fp16", ())


def test_bf16_rounds_to_nearest_even():
    values = np.array([1.0, 1.00390625, 1.01171875, -2.5], dtype=np.float32)
    back = (bf16_bits(values).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(back, [1.0, 1.0, 1.015625, -2.5])
