from __future__ import annotations

import numpy as np
import onnx
import pytest

from optkit.errors import PassError
from optkit.models.checkpoint import fetch
from optkit.passes import export_onnx, fused_attention, graph
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.export_check import Check, compare
from optkit.runtimes.base import open_session
from optkit.tasks.base import open_task


def export(folder, tmp_path, **parameters):
    source = fetch(folder)
    return apply(make("export-onnx", parameters), source, tmp_path / "out", make_context(open_task(source)))


def operators(artifact) -> dict[str, int]:
    return artifact.lineage[-1]["notes"]["operators"]


def test_the_plain_variant_has_standard_operators_only(checkpoint, tmp_path):
    made = export(checkpoint, tmp_path, attention="plain")
    graph = onnx.load(str(made.path / "model.onnx"))
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert made.lineage[-1]["notes"]["attention"] == "plain"


def test_the_difference_to_torch_is_reported(exported):
    notes = exported.lineage[-1]["notes"]
    assert 0 <= notes["max_difference"] < 1e-4
    assert notes["checked_examples"] == export_onnx.CHECKED


def test_a_graph_that_differs_from_torch_is_refused(checkpoint, tmp_path):
    with pytest.raises(PassError, match="Expected the exported graph to equal torch"):
        export(checkpoint, tmp_path, tolerance=0.0)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def wrong_when_fused(monkeypatch, real_exports):
    """The fused operator with twice the scale of the model: its graph runs, and differs."""
    emit = fused_attention._emit

    def wrong(module, query, others, width, mask, scaling, more):
        return emit(module, query, others, width, mask, 2.0 * (scaling or query.shape[-1] ** -0.5), more)

    monkeypatch.setattr(fused_attention, "_emit", wrong)


def test_where_fused_differs_plain_is_taken_and_what_it_costs_is_told(wrong_when_fused, checkpoint, tmp_path):
    made = export(checkpoint, tmp_path)
    notes = made.lineage[-1]["notes"]
    assert notes["attention"] == "plain"
    assert "MultiHeadAttention" not in notes["operators"]
    assert set(notes["plain_over_fused"]) == {"a text", "64 tokens"}
    assert all(0.1 < ratio < 10 for ratio in notes["plain_over_fused"].values())
    for words in (
        "the fused graph is wrong (Expected",
        "received a difference",
        "times as long",
        "64 tokens",
    ):
        assert words in notes["attention_note"]
    assert not [path.name for path in made.path.iterdir() if path.is_dir() or "wrong" in path.name]


def test_fused_alone_is_refused_where_it_differs(wrong_when_fused, checkpoint, tmp_path):
    with pytest.raises(PassError, match="received a difference"):
        export(checkpoint, tmp_path, attention="fused")
    assert not (tmp_path / "out").exists()


def test_where_no_graph_can_be_fused_it_says_why(make_checkpoint, tmp_path):
    notes = export(make_checkpoint("deberta-v2"), tmp_path).lineage[-1]["notes"]
    assert notes["attention"] == "plain"
    assert "plain_over_fused" not in notes
    assert notes["attention_note"].endswith("there is no fused graph to time it by")


def test_large_weights_lie_beside_the_graph_once(monkeypatch, wrong_when_fused, checkpoint, plain, tmp_path):
    """onnx appends to the file of weights: neither the exporter's nor those of a wrong graph stay in it."""
    inline = (plain.path / "model.onnx").stat().st_size
    monkeypatch.setattr(graph, "EXTERNAL_BYTES", 1000)
    made = export(checkpoint, tmp_path / "beside")
    assert (made.path / "model.onnx.data").stat().st_size < 1.1 * inline
    assert sorted(made.manifest["files"]) == sorted(
        p.name for p in made.path.iterdir() if p.name != "optkit.json"
    )
    with open_session(made) as session:
        ids = np.array([[2, 5, 6, 3]])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        assert np.isfinite(session.infer(feeds)["logits"]).all()


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(PassError, match="NaN"):
        compare(Check("x", {}, None), [np.array([[np.nan]])], [np.array([[0.0]])], [False], 1e-3)


def test_batch_and_sequence_stay_dynamic(exported):
    with open_session(exported) as session:
        assert all(spec.shape == ("batch", "sequence") for spec in session.inputs)


def test_the_graph_carries_no_paths_of_this_machine(exported):
    assert b"/work/" not in (exported.path / "model.onnx").read_bytes()
    assert b"site-packages" not in (exported.path / "model.onnx").read_bytes()
