from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.bench import roofline
from optkit.bench.roofline import Peak, Work, bound_ms, count
from optkit.runtimes.fake import ManualClock


def graph(*nodes, **weights):
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "t", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(w, n) for n, w in weights.items()],
        )
    )


W = np.zeros((4, 6), np.float32)


def test_a_matmul_runs_once_per_token_and_reads_its_weights_once():
    work = count(graph(helper.make_node("MatMul", ["x", "w"], ["y"]), w=W), batch=2, tokens=3)
    assert work == Work(operations=2 * 4 * 6 * 2 * 3, low=0, bytes=4 * 6 * 4)


def test_a_gemm_runs_once_per_example():
    work = count(graph(helper.make_node("Gemm", ["x", "w"], ["y"]), w=W), batch=2, tokens=3)
    assert work.operations == 2 * 4 * 6 * 2


def test_int8_is_seen_through_qdq_and_as_an_integer_operator():
    qdq = graph(
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
        w=W.astype(np.int8),
        s=np.ones((), np.float32),
    )
    integer = graph(helper.make_node("MatMulInteger", ["x", "w"], ["y"]), w=W.astype(np.int8))
    for model in (qdq, integer):
        work = count(model, 1, 5)
        assert work.low == work.operations == 2 * 4 * 6 * 5
        assert work.bytes == 4 * 6


def test_a_product_of_two_activations_has_no_weight():
    assert count(graph(helper.make_node("MatMul", ["x", "x"], ["y"])), 1, 5).operations == 0


def test_fused_attention_adds_two_products_per_layer():
    square = np.zeros((4, 4), np.float32)
    model = graph(
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("MultiHeadAttention", ["q", "q", "q"], ["y"], domain="com.microsoft"),
        w=square,
    )
    assert count(model, 2, 3).operations == 2 * 16 * 6 + 4 * 2 * 3 * 3 * 4


def test_the_bound_is_the_slower_of_arithmetic_and_memory():
    peak = Peak(fp32=100e9, int8=400e9, bandwidth=10e9)
    assert bound_ms(Work(1e9, 0, 0), peak) == pytest.approx(10)
    assert bound_ms(Work(1e9, 1e9, 0), peak) == pytest.approx(2.5)
    assert bound_ms(Work(1e9, 1e9, 1e9), peak) == pytest.approx(100)


def test_a_peak_is_the_fastest_run():
    clock = ManualClock()
    durations = iter([9, 0.5, 0.25, 0.5] + [0.5] * 2000)
    assert roofline._fastest(lambda: clock.advance(next(durations)), clock) == pytest.approx(0.25)


def test_counts_of_a_real_export_agree_with_its_weights(checkpoint, tmp_path):
    from optkit.checkpoint import fetch
    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.task import open_task

    source = fetch(checkpoint)
    step = make("export-onnx", {"one_token": False})
    made = apply(step, source, tmp_path / "o", make_context(open_task(source)))
    work = count(roofline.graph_of(made.path), batch=3, tokens=10)
    hidden, inner, layers = 32, 64, 2
    per_token = 2 * layers * (4 * hidden * hidden + 2 * hidden * inner)
    attention = layers * 4 * 3 * 10 * 10 * hidden
    head = 2 * 3 * (hidden * hidden + hidden * 2)
    assert work.operations == per_token * 30 + attention + head
