"""Bias correction: the mean of each product's output comes back to what it was in float."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.data.examples import EncodedSet
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.bias_correction import correct_biases
from optkit.passes.calibration import activation_ranges


def linear(kind: str, bias: bool = True):
    """One product of 8 × 4 with a weight that per-tensor rounding shifts."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(8, 4)).astype(np.float32)
    weight[0, 0] = 30.0  # the one scale is coarse for all others
    tensors = [numpy_helper.from_array(weight.T.copy() if kind == "Gemm" else weight, "w")]
    if bias:
        tensors.append(numpy_helper.from_array(random.normal(size=4).astype(np.float32), "b"))
    if kind == "Gemm":
        nodes = [helper.make_node("Gemm", ["x", "w", *(["b"] if bias else [])], ["y"], "product", transB=1)]
    else:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p" if bias else "y"], "product")]
        nodes += [helper.make_node("Add", ["p", "b"], ["y"], "add")] if bias else []
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )


@pytest.fixture
def rows():
    return np.random.default_rng(1).normal(2.0, 1.0, size=(400, 8)).astype(np.float32)


def mean_of(model, rows):
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": rows})[0].mean(axis=0)


def quantized_with(model, rows, correct: bool):
    step = make("quantize-static", {"per_channel": False})
    samples = EncodedSet({"x": list(rows)}, {})
    ranges = activation_ranges(model, ["x"], samples, "min-max", 100.0, lambda text, fraction: None)
    if correct:
        rounded = step._with_qdq(copy.deepcopy(model), ["product"], ranges)
        assert correct_biases(model, rounded, ["product"], samples) == 1
    return step._with_qdq(model, ["product"], ranges)


@pytest.mark.parametrize(("kind", "bias"), [("MatMul", True), ("Gemm", True), ("Gemm", False)])
def test_the_mean_output_is_that_of_float(kind, bias, rows):
    # Examples of one token each: "x" is (examples, 8) here.
    expected = mean_of(linear(kind, bias), rows)
    plain = mean_of(quantized_with(linear(kind, bias), rows, correct=False), rows)
    corrected = mean_of(quantized_with(linear(kind, bias), rows, correct=True), rows)
    assert np.abs(plain - expected).max() > 0.05
    # A Gemm's bias is itself rounded, to a step of 0.006 here.
    np.testing.assert_allclose(corrected, expected, atol=4e-3)


def test_a_product_without_a_bias_is_left_alone(rows):
    model = linear("MatMul", bias=False)
    before = model.SerializeToString()
    rounded = make("quantize-static", {})._with_qdq(copy.deepcopy(model), ["product"], {"x": (-2.0, 6.0)})
    assert correct_biases(model, rounded, ["product"], EncodedSet({"x": list(rows)}, {})) == 0
    assert model.SerializeToString() == before


def test_a_bias_that_two_products_share_becomes_two(rows):
    model = linear("MatMul")
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32) * 1.003, "w2")
    model.graph.initializer.append(weight)
    model.graph.node[-1].output[0] = "first"
    model.graph.node.extend(
        [
            helper.make_node("MatMul", ["first", "w2"], ["p2"], "second"),
            helper.make_node("Add", ["p2", "b"], ["y"]),
        ]
    )
    names, samples = ["product", "second"], EncodedSet({"x": list(rows)}, {})
    ranges = activation_ranges(model, ["x", "first"], samples, "min-max", 100.0, lambda text, fraction: None)
    rounded = make("quantize-static", {})._with_qdq(copy.deepcopy(model), names, ranges)
    assert correct_biases(model, rounded, names, samples) == 2
    kept = {tensor.name for tensor in model.graph.initializer}
    assert {"product_corrected_bias", "second_corrected_bias"} <= kept
    assert "b" not in kept


def test_the_pass_corrects_every_product_of_a_bert(exported, context, tmp_path):
    for fields in ({}, {"smooth_quant": 0.5}):
        step = make("quantize-static", {"bias_correction": True, **fields})
        made = apply(step, exported, tmp_path / f"q{len(fields)}", context)
        notes = made.lineage[-1]["notes"]
        assert notes["corrected_biases"] == notes["quantized_matmuls"], "each has a place for a bias"
        names = [tensor.name for tensor in graph.load_graph(made.path).graph.initializer]
        assert len(names) == len(set(names))
