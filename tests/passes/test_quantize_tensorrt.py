from __future__ import annotations

import numpy as np
import onnx
import pytest

from optkit.errors import PassError
from optkit.models.checkpoint import fetch
from optkit.passes.attention_pattern import find_attention
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.finite_attention import make_masks_finite
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task


@pytest.fixture(scope="module")
def made(plain, context, tmp_path_factory):
    return apply(make("quantize-tensorrt", {}), plain, tmp_path_factory.mktemp("q") / "onnx", context)


class Graph:
    """A graph by tensor: who makes it and who reads it."""

    def __init__(self, artifact):
        self.model = onnx.load(str(artifact.path / "model.onnx"))
        self.nodes = list(self.model.graph.node)
        self.maker = {o: n for n in self.nodes for o in n.output}
        self.weights = {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer}

    def is_pair(self, name):
        """Whether tensor `name` comes out of DequantizeLinear(QuantizeLinear(x)); gives x."""
        dq = self.maker.get(name)
        if dq is None or dq.op_type != "DequantizeLinear":
            return None
        q = self.maker.get(dq.input[0])
        if q is None or q.op_type != "QuantizeLinear" or list(q.input[1:]) != list(dq.input[1:]):
            return None
        return q.input[0]


def test_every_attention_has_its_pairs_node_by_node(plain, made):
    before = {n.name: n for n in Graph(plain).nodes}
    graph = Graph(made)
    clean = Graph(plain).model
    make_masks_finite(clean)  # the NaN guard lies between softmax and product
    blocks = find_attention(clean)
    assert len(blocks) == 2
    by_name = {n.name: n for n in graph.nodes}
    for block in blocks:
        scores, context = by_name[block.scores.name], by_name[block.context.name]
        for i in (0, 1):  # before the first batched product: query and key
            assert graph.is_pair(scores.input[i]) == before[block.scores.name].input[i]
        assert graph.is_pair(context.input[0]) == block.softmax.output[0]  # after the softmax
        assert graph.is_pair(context.input[1]) == before[block.context.name].input[1]  # the value
        readers = [n for n in graph.nodes if context.output[0] in n.input]
        assert [n.op_type for n in readers] == ["QuantizeLinear"]  # after the second


def test_the_mask_is_added_in_float_between_product_and_softmax(made):
    graph = Graph(made)
    for softmax in (n for n in graph.nodes if n.op_type == "Softmax"):
        add = graph.maker[softmax.input[0]]
        assert add.op_type == "Add"
        assert {graph.maker[name].op_type for name in add.input} == {"MatMul", "Where"}


def test_every_residual_addition_reads_a_pair(made):
    graph = Graph(made)
    found = 0
    for node in graph.nodes:
        if node.op_type == "Add":
            sources = [graph.is_pair(name) for name in node.input]
            normalized = [s for s in sources if s and graph.maker[s].op_type == "LayerNormalization"]
            found += len(normalized)
    assert found == 4  # two per layer


def test_every_product_with_a_weight_is_int8(made):
    graph = Graph(made)
    products = 0
    for node in graph.nodes:
        if node.op_type in ("MatMul", "Gemm"):
            dq = graph.maker[node.input[1]]
            if dq.op_type == "DequantizeLinear" and dq.input[0] in graph.weights:
                products += 1
                assert graph.weights[dq.input[0]].dtype == np.int8
                assert graph.weights[dq.input[1]].ndim == 1
                assert graph.is_pair(node.input[0])
    assert products == 6 * 2 + 2  # six per layer, pooler and classifier


def test_zero_points_are_zero(made):
    graph = Graph(made)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not graph.weights[node.input[2]].any()


def test_fp8_has_the_same_places_and_e4m3_numbers(plain, made, context, tmp_path):
    eight = apply(make("quantize-tensorrt", {"kind": "fp8"}), plain, tmp_path / "q", context)
    graph, int8 = Graph(eight), Graph(made)
    assert eight.precision == "fp8"
    assert [n.name for n in graph.nodes] == [n.name for n in int8.nodes]
    onnx.checker.check_model(graph.model, full_check=True)
    types = {t.name: t.data_type for t in graph.model.graph.initializer}
    pairs = [n for n in graph.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {types[n.input[2]] for n in pairs} == {onnx.TensorProto.FLOAT8E4M3FN}
    assert all(graph.weights[n.input[1]].ndim == 0 for n in pairs)  # one scale per tensor, weights too
    for name, weight in graph.weights.items():
        if name.endswith("_fp8"):
            assert np.abs(weight.astype(np.float32)).max() == 448  # the whole range is used


def test_fp8_answers_like_fp32(plain, context, tmp_path):
    eight = apply(make("quantize-tensorrt", {"kind": "fp8"}), plain, tmp_path / "q", context)
    encoded = context.encoded("validation", 16)
    with open_session(plain) as a, open_session(eight) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert (before != after).any()
    np.testing.assert_allclose(after, before, atol=0.15 * np.abs(before).max())


def test_a_head_size_that_does_not_fuse_stays_in_float(make_checkpoint, context, tmp_path):
    source = fetch(make_checkpoint("bert", hidden_size=24))
    graph = apply(make("export-onnx", {"attention": "plain"}), source, tmp_path / "p", context)
    made = apply(make("quantize-tensorrt", {}), graph, tmp_path / "q", context)
    notes = made.lineage[-1]["notes"]
    assert notes["int8_attention"] == 0
    assert "this model's is 12" in notes["attention_note"]


def test_a_fused_graph_is_refused(exported, context, tmp_path):
    with pytest.raises(PassError, match="standard operators"):
        apply(make("quantize-tensorrt", {}), exported, tmp_path / "q", context)


def test_it_goes_on_to_fp16(made, context, tmp_path):
    half = apply(make("cast-fp16", {}), made, tmp_path / "h", context)
    graph = Graph(half)
    scales = {graph.weights[n.input[1]].dtype for n in graph.nodes if n.op_type == "QuantizeLinear"}
    assert scales == {np.dtype(np.float16)}
    assert half.precision == "int8"  # and not that of what stayed float


def test_accuracy_on_sst2(shared_checkpoint, shared_sst2, tmp_path):
    """INT8 with attention and residuals, in ONNX Runtime on the CPU: 200 sentences of dev."""
    from optkit.data.dataset import Data

    source = fetch(shared_checkpoint)
    task = open_task(source)
    context = make_context(task, Data(str(shared_sst2)))
    plain = apply(make("export-onnx", {"attention": "plain"}), source, tmp_path / "p", context)
    made = apply(make("quantize-tensorrt", {"samples": 64}), plain, tmp_path / "q", context)
    assert made.lineage[-1]["notes"]["int8_attention"] == 6
    encoded = context.encoded("validation", 200)
    with open_session(plain) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]).argmax(1) for s in (a, b))
    assert (before == after).mean() > 0.95
