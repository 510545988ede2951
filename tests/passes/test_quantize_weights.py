"""Weights in few bits: what is stored so, how near the answers stay, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from optkit.errors import PassError, RecipeError
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.runtimes.base import infer_all, open_session


@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.02), (4, 0.3)])
def test_answers_stay_near_in_each_width(bits, allowed, exported, context, tmp_path):
    made = apply(make("quantize-weights", {"bits": bits}), exported, tmp_path / "w", context)
    multiplies = len(graph.quantizable(graph.load_graph(exported.path), (), ("MatMul",)))
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == multiplies
    encoded = context.encoded("test", None)
    with open_session(exported) as a, open_session(made) as b:
        before, after = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert np.abs(after - before).max() <= allowed * np.abs(before).max()
    assert np.abs(after - before).max() > 0


def test_answers_do_not_depend_on_neighbours(exported, context, tmp_path):
    made = apply(make("quantize-weights", {"bits": 4}), exported, tmp_path / "w", context)
    encoded = context.encoded("test", None)
    with open_session(made) as session:
        together, alone = (np.stack(infer_all(session, encoded, n, 512)["logits"]) for n in (8, 1))
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_an_excluded_node_stays_float(exported, context, tmp_path):
    name = graph.quantizable(graph.load_graph(exported.path), (), ("MatMul",))[0]
    made = apply(make("quantize-weights", {"exclude": (name,)}), exported, tmp_path / "w", context)
    assert [n.name for n in graph.load_graph(made.path).graph.node if n.op_type == "MatMul"] == [name]


def test_a_quantized_graph_is_refused(exported, context, tmp_path):
    dynamic = apply(make("quantize-dynamic", {}), exported, tmp_path / "dynamic", context)
    with pytest.raises(PassError, match="no float MatMul"):
        apply(make("quantize-weights", {}), dynamic, tmp_path / "x", context)
    assert not (tmp_path / "x").exists()


def test_a_width_that_no_kernel_has_is_refused():
    with pytest.raises(RecipeError, match="bits"):
        make("quantize-weights", {"bits": 5})
