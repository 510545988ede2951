"""Dynamic and static INT8: what became integer, what stayed float, and how large it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optkit.errors import PassError, RecipeError
from optkit.passes import calibration, graph, int8_embeddings
from optkit.passes.base import apply, make
from optkit.runtimes.base import infer_all, open_session

#: Per layer the packed projections, the output's and two of the feed-forward block; one more in the last
#: layer, where the query is of one token; pooler and classifier.
MATMULS = 2 * 4 + 1 + 2
#: The products of two feed-forward blocks.
FFN = ["up", "down", "up2", "down2"]


def load(artifact):
    return onnx.load(str(artifact.path / graph.MODEL_FILE))


def test_dynamic_makes_every_weight_matrix_integer(exported, context, tmp_path):
    made = apply(make("quantize-dynamic", {}), exported, tmp_path / "q", context)
    counts = graph.operator_counts(load(made))
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == MATMULS
    assert counts["MatMulInteger"] == MATMULS
    assert "MatMul" not in counts
    assert "Gemm" not in counts


def test_static_wraps_every_weight_matrix_in_qdq(exported, context, tmp_path):
    made = apply(make("quantize-static", {}), exported, tmp_path / "q", context)
    model = load(made)
    produced = {out: node for node in model.graph.node for out in node.output}
    multiplies = [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm")]
    assert len(multiplies) == MATMULS
    for node in multiplies:
        assert {produced[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}


def test_weight_scales_are_per_channel_unless_asked_otherwise(exported, context, tmp_path):
    for per_channel in (True, False):
        step = make("quantize-static", {"per_channel": per_channel})
        made = load(apply(step, exported, tmp_path / str(per_channel), context))
        sizes = [
            np.size(numpy_helper.to_array(t))
            for t in made.graph.initializer
            if t.name.endswith("_scale") and "weight" in t.name
        ]
        assert sizes
        assert (max(sizes) > 1) == per_channel


@pytest.mark.parametrize("name", ["quantize-dynamic", "quantize-static"])
def test_an_excluded_node_stays_float(name, exported, context, tmp_path):
    chosen = graph.quantizable(load(exported), ())[0]
    made = apply(make(name, {"exclude": (chosen,)}), exported, tmp_path / "q", context)
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == MATMULS - 1
    model = load(made)
    node = next(n for n in model.graph.node if n.name == chosen)
    assert node.op_type in ("MatMul", "Gemm")
    produced = {out for n in model.graph.node for out in n.output}
    assert node.input[1] not in produced, "its weight is still a plain initializer"


@pytest.mark.parametrize(
    ("config", "chosen"),
    [
        ({"intermediate_size": 64}, ["up", "down"]),
        ({"hidden_size": 32, "intermediate_size": 128, "optkit_pruned": {"ffn": [64, 32, 0]}}, FFN),
        ({"hidden_size": 99, "optkit_pruned": {"ffn": [64, 32], "hidden": 32}}, FFN),
        ({"hidden_size": 32, "optkit_pruned": {"ffn": [48, 16]}}, []),
        ({"hidden_size": 32, "optkit_pruned": {"ffn": [0, 0]}}, []),
    ],
)
def test_the_feed_forward_blocks_of_pruned_models_are_found(config, chosen):
    """The second layer's is as wide as the hidden state, and so are products that belong to no block."""
    from onnx import helper

    sizes = {"query": (32, 32), "value": (32, 16), "x_qkv_MatMul": (32, 48), "up": (32, 64), "down": (64, 32)}
    sizes |= {"up2": (32, 32), "down2": (32, 32), "pooler": (32, 32), "head": (32, 2)}
    fed = {"down": "up_a", "down2": "up2_a", "head": "pooler_a"}
    nodes = []
    for name in sizes:
        nodes.append(helper.make_node("MatMul", [fed.get(name, "x"), f"{name}_w"], [f"{name}_y"], name))
        nodes.append(helper.make_node("Add", [f"{name}_y", "bias"], [f"{name}_b"]))
        nodes.append(helper.make_node("Gelu", [f"{name}_b"], [f"{name}_a"]))
    weights = [numpy_helper.from_array(np.ones(s, np.float32), f"{n}_w") for n, s in sizes.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], weights))
    assert graph.quantizable(model, (), among=graph.feed_forward(model, config)) == chosen


def test_nothing_to_quantize_is_refused(exported):
    model = load(exported)
    step = make("quantize-static", {"exclude": graph.quantizable(model, ())})
    with pytest.raises(PassError, match="received none"):
        step.chosen(model, exported)


def test_an_exclusion_that_is_no_node_is_refused(exported, context, tmp_path):
    with pytest.raises(RecipeError, match="No node is called 'node_x'"):
        apply(make("quantize-dynamic", {"exclude": ("node_x",)}), exported, tmp_path / "q", context)


@pytest.mark.parametrize("method", calibration.METHODS)
def test_every_calibration_gives_a_model_near_the_original(method, exported, context, tmp_path):
    made = apply(make("quantize-static", {"calibration": method}), exported, tmp_path / "q", context)
    encoded = context.encoded("test", None)
    with open_session(exported) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert np.abs(after - before).max() < 0.3 * np.abs(before).max()


def test_static_answers_do_not_depend_on_the_batch(exported, context, tmp_path):
    made = apply(make("quantize-static", {}), exported, tmp_path / "q", context)
    encoded = context.encoded("test", None)
    with open_session(made) as session:
        together = np.stack(infer_all(session, encoded, 32, 4096)["logits"])
        alone = np.stack(infer_all(session, encoded, 1, 4096)["logits"])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_embeddings_lose_at_most_half_a_step_per_row():
    rng = np.random.default_rng(0)
    table = (rng.normal(size=(5000, 32)) * rng.uniform(0.01, 10, size=(5000, 1))).astype(np.float32)
    model = _gather_model(table)
    assert int8_embeddings.quantize_embeddings(model) == ["table"]
    import onnxruntime

    ids = np.arange(5000)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"ids": ids})[0]
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - table) <= step * 0.5001).all()


def test_small_tables_stay_float():
    assert int8_embeddings.quantize_embeddings(_gather_model(np.ones((2, 8), np.float32))) == []


def test_percentile_cuts_both_tails():
    counts = np.zeros(calibration.BINS)
    counts[calibration.BINS // 2] = 9_998
    counts[0] = counts[-1] = 1
    low, high = calibration._percentile(counts, np.linspace(-100, 100, calibration.BINS + 1), 99.9)
    assert -1 < low <= 0 <= high < 1


def test_entropy_keeps_the_range_of_uniform_values_and_cuts_a_lone_outlier():
    edges = np.linspace(-1, 1, calibration.BINS + 1)
    low, high = calibration._entropy(np.full(calibration.BINS, 100), edges)
    assert low < -0.9
    assert high > 0.9
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(0, 1, 200_000), 60.0)
    counts, edges = np.histogram(values, bins=calibration.BINS, range=(-60, 60))
    assert calibration._entropy(counts, edges)[1] < 30


def test_a_range_that_is_not_finite_is_refused(exported, context):
    from optkit.errors import PassError

    model = load(exported)
    name = graph.matmuls_with_weights(model)[0].input[0]
    for tensor in model.graph.initializer:
        if tensor.name.endswith("LayerNorm.weight"):
            values = numpy_helper.to_array(tensor).copy()
            values[0] = np.inf
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(PassError, match="NaN or infinite"):
        calibration.activation_ranges(
            model, [name], context.encoded("train", 4), "min-max", 99.9, lambda text, share: None
        )


def _gather_model(table: np.ndarray):
    from onnx import TensorProto, helper

    node = helper.make_node("Gather", ["table", "ids"], ["out"], "gather")
    return helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", table.shape[1]])],
            [numpy_helper.from_array(table, "table")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )


@pytest.mark.parametrize(("name", "least"), [("quantize-dynamic", 0.866), ("quantize-static", 0.866)])
def test_the_real_checkpoint_keeps_its_accuracy(name, least, shared_checkpoint, shared_sst2, tmp_path):
    """1% relative under fp32 (.8773) on the whole validation split, and the promised size."""
    from optkit.data.dataset import Data
    from optkit.models.checkpoint import fetch
    from optkit.passes.context import make_context
    from optkit.tasks.base import Columns, open_task

    source = fetch(shared_checkpoint)
    task, data = open_task(source), Data(str(shared_sst2))
    context = make_context(task, data)
    fp32 = apply(make("export-onnx", {}), source, tmp_path / "fp32", context)
    made = apply(make(name, {}), fp32, tmp_path / "int8", context)
    labelled = task.read(data.split("validation"), Columns())
    with open_session(made) as session:
        answers = task.answers(infer_all(session, labelled.encoded, 32, 4096))
    assert task.score(answers, labelled.references) > least
    assert made.size_bytes <= 0.27 * fp32.size_bytes


def test_convolutions_become_integer_where_they_are_asked_for(tmp_path):
    """Two convolutions and a Gemm, through ONNX Runtime's optimizer: integer kernels, the same answers."""
    import onnxruntime
    from onnx import TensorProto, helper

    from optkit.data.examples import EncodedSet
    from optkit.passes.quantize_static import QuantizeStatic

    random, shapes = np.random.default_rng(0), {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 4)}
    weights = [
        numpy_helper.from_array((random.normal(size=s) / 4).astype(np.float32), n) for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "second"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], "head"),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["batch", 3, 16, 16]), ("y", ["batch", 4]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends, weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    samples = EncodedSet({"x": [random.normal(size=(3, 16, 16)).astype(np.float32) for _ in range(8)]}, {})
    assert graph.quantizable(model, ()) == ["head"]
    chosen = graph.quantizable(model, (), ("Gemm", "Conv"))
    assert chosen == ["head", "first", "second"]
    ranges = calibration.activation_ranges(
        model, ["x", "a", "b", "c", "e"], samples, "min-max", 99.9, lambda *_: None
    )
    feeds = samples.batch(range(8))
    right = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    made = QuantizeStatic(operators=("Gemm", "Conv"))._with_qdq(model, chosen, ranges)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    answers = onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, feeds)[0]
    assert np.corrcoef(answers.ravel(), right.ravel())[0, 1] > 0.999
    counts = graph.operator_counts(onnx.load(str(tmp_path / "optimized.onnx")))
    assert counts["QLinearConv"] == 2
    assert "Conv" not in counts
