from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.benchmarking import roofline
from optkit.benchmarking.evaluation import Evaluator
from optkit.benchmarking.roofline import Peak, Work, as_precision, bound_ms, count
from optkit.errors import WorkerError
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
    assert work == Work(operations=288, low=0, bytes=4 * 6 * 4, products=288)


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


@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_copied_does_not_grow_with_the_threads(monkeypatch, threads):
    monkeypatch.setattr(roofline, "COPIED", 1000)
    clock = ManualClock()
    monkeypatch.setattr(roofline, "_fastest", lambda run, clock: (run(), 0.5)[1])
    assert roofline._copy_rate(threads, clock) == 2 * 1000 / 0.5


def test_peaks_that_cannot_be_measured_are_a_doubt(monkeypatch):
    def killed(self):
        raise WorkerError("It ended with code -9.")

    monkeypatch.setattr(Evaluator, "_peak", killed)
    peak, bounds, doubts = object.__new__(Evaluator).roofline([])
    assert (peak, bounds) == (None, {})
    assert "It ended with code -9." in doubts[0]


def test_half_precision_reads_half_the_bytes_at_its_own_rate():
    peak = Peak(fp32=100e9, int8=400e9, bandwidth=10e9, fp16=200e9, fp8=800e9)
    work = Work(operations=2e9, low=0, bytes=1e8, products=1.6e9)
    assert bound_ms(as_precision(work, "fp16"), peak) == pytest.approx(10)
    assert as_precision(work, "fp16").bytes == 5e7
    eight = as_precision(work, "fp8")  # attention stays in bf16, which was not measured here: fp32's rate
    assert bound_ms(eight, peak) == pytest.approx(1.6e9 / 800e9 * 1000 + 0.4e9 / 100e9 * 1000)
    assert as_precision(work, "fp32") == work


def test_a_graph_that_says_what_is_in_8_bits_is_not_counted_twice():
    work = Work(operations=2e9, low=1e9, bytes=1e8, products=1.6e9)
    assert (as_precision(work, "int8").bytes, as_precision(work, "int8").low) == (1e8, 1e9)
