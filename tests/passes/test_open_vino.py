"""What the OpenVINO passes promise beyond the contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from optkit.errors import MissingDependency, PassError, RecipeError
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.open_vino_int8 import wide_convolutions
from optkit.passes.plain_attention import unfuse
from optkit.runtimes.base import infer_all, open_session

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset13")


def precisions(artifact) -> list[str]:
    """What each matrix multiply of the compiled model computes in."""
    with open_session(artifact) as session:
        found = []
        for op in session.compiled.get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            if info["layerType"].astype(str) in ("FullyConnected", "MatMul"):
                found.append(info["runtimePrecision"].astype(str))
        return found


def test_unfused_attention_is_standard_onnx_and_answers_the_same(exported, context, tmp_path):
    model = graph.load_graph(exported.path)
    assert unfuse(model) == 2
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    onnx.checker.check_model(model)
    assert unfuse(model) == 0
    assert sum(node.op_type == "Unsqueeze" and "addend" in node.output[0] for node in model.graph.node) == 1


def test_an_operator_outside_of_standard_onnx_is_named(exported):
    model = graph.load_graph(exported.path)
    model.graph.node[0].domain = "com.example"
    with pytest.raises(PassError, match="com.example::"):
        unfuse(model)


def test_the_fp32_model_equals_its_source(exported, context, tmp_path):
    made = apply(make("open-vino", {}), exported, tmp_path / "ir", context)
    notes = made.lineage[-1]["notes"]
    assert notes["attention_nodes"] == 2
    assert notes["max_difference"] < 1e-4
    encoded = context.encoded("test", None)
    with open_session(exported) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    np.testing.assert_allclose(before, after, atol=1e-4)
    assert set(precisions(made)) == {"f32"}


def test_multiplies_with_weights_run_in_int8(exported, context, tmp_path):
    made = apply(make("open-vino-int8", {"samples": 32}), exported, tmp_path / "int8", context)
    notes = made.lineage[-1]["notes"]
    assert notes["calibration_examples"] == 32
    assert notes["quantized_operators"]["MatMul"] >= 9  # projections, output, two of FFN; twice, and a query
    assert sum(p in ("i8", "u8") for p in precisions(made)) >= 9


def test_answers_do_not_depend_on_neighbours(exported, context, tmp_path):
    made = apply(make("open-vino-int8", {"samples": 32}), exported, tmp_path / "int8", context)
    encoded = context.encoded("test", None)
    with open_session(made) as session:
        together, alone = (np.stack(infer_all(session, encoded, n, 512)["logits"]) for n in (8, 1))
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_an_excluded_operator_stays_in_float(exported, context, tmp_path):
    from optkit.passes.open_vino import convert

    model, _ = convert(exported)
    names = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"]
    whole = apply(make("open-vino-int8", {"samples": 8}), exported, tmp_path / "a", context)
    less = apply(
        make("open-vino-int8", {"samples": 8, "exclude": names[-1:]}), exported, tmp_path / "b", context
    )
    count = [a.lineage[-1]["notes"]["quantized_operators"]["MatMul"] for a in (whole, less)]
    assert count[1] == count[0] - 1


def test_attention_is_rounded_only_where_it_is_asked_for(exported, context, tmp_path):
    """Four products of two activations in two layers; NNCF rounds both inputs of the scores."""
    counts = {
        rounded: apply(
            make("open-vino-int8", {"samples": 8, "attention": rounded}),
            exported,
            tmp_path / f"{rounded}",
            context,
        ).lineage[-1]["notes"]["quantized_operators"]["MatMul"]
        for rounded in (False, True)
    }
    assert counts[True] >= counts[False] + 2


def test_convolutions_wider_than_three_stay_in_float():
    given = x = ops.parameter([1, 16, -1, -1], np.float32)
    for kernel in (1, 3, 4, 8):
        weights = ops.constant(np.ones((16, 16, kernel, kernel), np.float32))
        x = ops.convolution(x, weights, [1, 1], [9, 9], [9, 9], [1, 1], name=f"of {kernel}")
    assert wide_convolutions(openvino.Model([x], [given], "all")) == ["of 4", "of 8"]


def test_a_misspelt_exclusion_gets_the_nearest_name(exported, context, tmp_path):
    with pytest.raises(RecipeError, match="No operator is called"):
        apply(make("open-vino-int8", {"exclude": ["no"]}), exported, tmp_path / "x", context)
    assert not (tmp_path / "x").exists()


def test_a_quantized_graph_is_refused_by_name(exported, context, tmp_path):
    dynamic = apply(make("quantize-dynamic", {}), exported, tmp_path / "dynamic", context)
    with pytest.raises(RecipeError, match="fp32 graph"):
        apply(make("open-vino", {}), dynamic, tmp_path / "x", context)


@pytest.mark.parametrize(("name", "absent"), [("open-vino", "openvino"), ("open-vino-int8", "nncf")])
def test_an_absent_package_names_its_extra(exported, context, tmp_path, monkeypatch, name, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingDependency, match=absent) as raised:
        apply(make(name, {}), exported, tmp_path / "x", context)
    assert "optkit[openvino]" in raised.value.hint


def test_listing_passes_loads_neither_library():
    code = "import sys; from optkit.passes import PASSES; dict(PASSES); "
    code += "assert not {'openvino', 'nncf'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
