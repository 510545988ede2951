"""The share of INT8 is what ran, not what the file is called."""

from __future__ import annotations

from unittest.mock import MagicMock

import numpy as np
import pytest

from optkit.benchmarking.int8_share import kernel_times, measure, summed
from optkit.benchmarking.probe import Probe
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task

pytestmark = pytest.mark.usefixtures("fake_runtime")


@pytest.fixture(scope="module")
def context(checkpoint, data):
    return make_context(open_task(fetch(checkpoint)), Data(str(data)))


@pytest.fixture(scope="module")
def exported(checkpoint, context, tmp_path_factory):
    return apply(make("export-onnx", {}), fetch(checkpoint), tmp_path_factory.mktemp("s") / "onnx", context)


@pytest.fixture
def feeds(context):
    return context.encoded("test", None).of_shape(2, 16)


def test_shares_are_of_time_and_a_node_counts_once():
    found = summed("x", [("a", "int8", 3.0), ("a", "int8", 3.0), ("b", "float", 2.0), ("c", "other", 4.0)])
    assert (found.multiplies, found.int8_multiplies) == (2, 1)
    assert (found.time_share, found.multiply_time_share) == (0.5, 0.75)
    assert found.to_dict()["multiply_share"] == 0.5


def test_nothing_that_ran_is_no_share():
    assert summed("x", []).to_dict()["multiply_share"] == 0.0


def test_an_fp32_graph_has_none(exported, feeds):
    found = measure(exported, "onnxruntime", feeds, {"threads": 1})
    assert found.int8_multiplies == 0
    assert found.multiplies >= 13  # projections, output and FFN of two layers, a query, attention, the head


@pytest.mark.parametrize("name", ["quantize-dynamic", "quantize-static"])
def test_onnxruntime_multiplies_integers(exported, context, feeds, tmp_path, name):
    found = measure(
        apply(make(name, {}), exported, tmp_path / "q", context), "onnxruntime", feeds, {"threads": 1}
    )
    assert found.int8_multiplies >= 9
    assert 0 < found.time_share < 1
    assert found.time_share < found.multiply_time_share


def test_what_is_kept_in_float_lowers_the_share(exported, context, feeds, tmp_path):
    made = apply(make("quantize-static", {"scope": "ffn"}), exported, tmp_path / "ffn", context)
    assert measure(made, "onnxruntime", feeds, {}).int8_multiplies == 4
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == 4


def test_openvino_says_what_its_kernels_computed_in(exported, context, feeds, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    whole = apply(make("open-vino", {}), exported, tmp_path / "fp32", context)
    assert measure(whole, "openvino", feeds, {"threads": 1}).int8_multiplies == 0
    int8 = apply(make("open-vino-int8", {"samples": 16}), exported, tmp_path / "int8", context)
    found = measure(int8, "openvino", feeds, {"threads": 1})
    assert found.int8_multiplies >= 9
    assert found.time_share > 0


def test_a_runtime_without_a_profile_gives_nothing(exported, feeds):
    assert measure(exported, "fake", feeds, {}) is None


def test_a_multiply_keeps_its_name_in_the_profile(exported, context, feeds, tmp_path):
    from optkit.passes import graph

    made = apply(make("quantize-static", {"samples": 8}), exported, tmp_path / "q", context)
    before, after = (kernel_times(a, feeds, {"threads": 1}, runs=3) for a in (exported, made))
    names = graph.quantizable(graph.load_graph(exported.path), ())
    named = [name for name in names if name in before and name in after]
    assert len(named) >= 9
    assert all(before[name] >= 0 and after[name] >= 0 for name in named)


@pytest.mark.parametrize(("bits", "integer"), [("uint8", 1), ("uint16", 0)])
def test_a_product_without_an_int8_kernel_counts_as_float(tmp_path, bits, integer):
    """ONNX Runtime has no kernel for 16-bit activations by 8-bit weights: it turns both back to float."""
    from types import SimpleNamespace

    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from optkit.passes import graph

    tensors = {
        "w": np.ones((8, 4), np.int8),
        "s": np.float32(0.1),
        "z": np.array(128, bits),
        "wz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["wdq"]),
        helper.make_node("MatMul", ["dq", "wdq"], ["y"], "product"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    model.ir_version = 10
    graph.save_graph(model, tmp_path)
    artifact = SimpleNamespace(manifest={}, model_files=[tmp_path / graph.MODEL_FILE])
    found = measure(artifact, "onnxruntime", {"x": np.ones((2, 8), np.float32)}, {"threads": 1})
    assert (found.multiplies, found.int8_multiplies) == (1, integer)


def test_a_sound_is_profiled_whole(monkeypatch, tmp_path):
    """128 samples, as many as a text has tokens, are shorter than what the first convolutions see."""
    clips = EncodedSet({"input_values": [np.zeros(n, np.float32) for n in (3000, 5000, 4000)]}, {})
    clips.save(tmp_path / "clips.npz")
    asked = []
    monkeypatch.setattr("optkit.benchmarking.probe.open_session", lambda *given, **options: MagicMock())
    monkeypatch.setattr("optkit.benchmarking.probe.batch_invariance.ask", lambda *given: {})
    monkeypatch.setattr("optkit.benchmarking.probe.Artifact.open", lambda path: None)
    monkeypatch.setattr(
        "optkit.benchmarking.probe.int8_share.measure",
        lambda model, runtime, feeds, options: asked.append(feeds),
    )
    Probe().ask("model", "onnxruntime", {}, str(tmp_path / "clips.npz"), str(tmp_path))
    assert asked[0]["input_values"].shape == (1, 4000)
