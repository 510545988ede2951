"""The pass: budgets, criteria, refits, bad input, and the way on to ONNX, INT8 and training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.models.checkpoint import fetch, load_model
from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.surgery import shape_of
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.prune import Prune
from optkit.passes.pruning.criteria import CRITERIA
from optkit.passes.take_layers import TakeLayers
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder


@pytest.fixture(scope="module")
def pruned(checkpoint, context, tmp_path_factory) -> Artifact:
    return apply(Prune(0.5), fetch(checkpoint), tmp_path_factory.mktemp("p") / "pruned", context)


def logits(artifact, context):
    with open_session(artifact) as session:
        return np.stack(infer_all(session, context.encoded("test", None), 8, 512)["logits"])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_meets_the_budget(criterion, checkpoint, context, tmp_path):
    made = apply(Prune(0.5, criterion=criterion), fetch(checkpoint), tmp_path / "x", context)
    notes = made.lineage[-1]["notes"]
    assert 0.5 <= notes["flops_removed"] < 0.75
    assert notes["after"] == shape_of(load_model(made)) == made.config[CONFIG_KEY]
    assert notes["parameters"]["after"] < notes["parameters"]["before"]
    assert made.size_bytes < fetch(checkpoint).size_bytes
    assert made.config["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.parametrize(
    "budget", [{"of": "parameters"}, {"of": "latency"}, {"of": "latency", "latency_precision": "int8"}]
)
def test_other_budgets(budget, checkpoint, context, tmp_path):
    made = apply(Prune(0.5, criterion="taylor", **budget), fetch(checkpoint), tmp_path / "x", context)
    assert made.lineage[-1]["notes"][f"{budget['of']}_removed"] >= 0.5


def test_an_absolute_budget(checkpoint, context, tmp_path):
    source, settings = fetch(checkpoint), {"of": "parameters", "criterion": "magnitude"}
    made = apply(Prune(target=9000, **settings), source, tmp_path / "x", context)
    notes = made.lineage[-1]["notes"]
    assert notes["parameters_after"] <= 9000 < notes["parameters_before"]
    with pytest.raises(PassError, match="Nothing to prune: heads and FFN take"):
        apply(Prune(target=1e9, **settings), source, tmp_path / "y", context)
    with pytest.raises(RecipeError, match="nothing would be left"):
        Prune(target=0)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra"])
def test_other_encoders(kind, make_checkpoint, context, tmp_path):
    made = apply(Prune(0.5), fetch(make_checkpoint(kind)), tmp_path / "x", context)
    assert made.lineage[-1]["notes"]["flops_removed"] >= 0.5
    assert np.isfinite(logits(made, context)).all()


@pytest.mark.parametrize(("kind", "pooling"), [("bert", {"pooling_mode": "mean"}), ("distilbert", None)])
def test_encoders_of_texts(kind, pooling, context, tmp_path):
    """A sentence-transformers folder, and a plain encoder: pruned, and cut to fewer layers, they embed."""
    source = fetch(embedder(tmp_path / "source", kind, pooling))
    own = replace(context, task=open_task(source))
    made = apply(Prune(0.4), source, tmp_path / "pruned", own)
    assert made.lineage[-1]["notes"]["flops_removed"] >= 0.4
    assert made.lineage[-1]["notes"]["refitted_sublayers"] > 0
    shallow = apply(TakeLayers(1), made, tmp_path / "shallow", own)
    graph = apply(make("export-onnx", {}), shallow, tmp_path / "onnx", own)
    texts = open_task(source).encode(["a fine film", "the plot is thin and dull"])
    found = []
    for artifact in (made, shallow, graph):
        with open_session(artifact) as session:
            found.append(np.stack(infer_all(session, texts, 8, 512)["sentence_embedding"]))
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[1], found[2], atol=1e-4)
    assert (made.path / "modules.json").exists() is (graph.path / "modules.json").exists() is bool(pooling)


def test_the_refit_comes_nearer_to_the_unpruned_model(checkpoint, context, tmp_path):
    source, distance = fetch(checkpoint), {}
    expected = logits(source, context)
    for refit in ("none", "scales", "projection"):
        step = Prune(0.5, criterion="fisher", refit=refit)
        made = apply(step, source, tmp_path / refit, context)
        distance[refit] = float(((logits(made, context) - expected) ** 2).mean())
    assert distance["projection"] < 0.8 * distance["none"]
    assert distance["scales"] < distance["none"]


def test_it_exports_and_quantizes(pruned, context, tmp_path):
    graph = apply(make("export-onnx", {}), pruned, tmp_path / "onnx", context)
    assert graph.lineage[-1]["notes"]["attention"] == "fused"
    assert np.abs(logits(graph, context) - logits(pruned, context)).max() < 1e-3
    small = apply(make("quantize-dynamic", {}), graph, tmp_path / "int8", context)
    assert small.size_bytes < graph.size_bytes
    halves = apply(make("quantize-static", {"scope": "ffn"}), graph, tmp_path / "ffn", context)
    layers = sum(width > 0 for width in pruned.config[CONFIG_KEY]["ffn"])
    assert halves.lineage[-1]["notes"]["quantized_matmuls"] == 2 * layers


def test_empty_sublayers_export(make_checkpoint, context, tmp_path):
    """A share so large that whole sublayers go, in the one architecture whose output lies within them."""
    made = apply(Prune(0.9), fetch(make_checkpoint("distilbert")), tmp_path / "x", context)
    shape = made.lineage[-1]["notes"]["after"]
    assert 0 in shape["heads"] + shape["ffn"]
    graph = apply(make("export-onnx", {}), made, tmp_path / "onnx", context)
    assert np.abs(logits(graph, context) - logits(made, context)).max() < 1e-3


def test_it_can_be_pruned_again(pruned, context, tmp_path):
    again = apply(Prune(0.4), pruned, tmp_path / "again", context)
    assert sum(again.config[CONFIG_KEY]["ffn"]) <= sum(pruned.config[CONFIG_KEY]["ffn"])
    assert again.size_bytes < pruned.size_bytes
    assert [s["pass"] for s in again.lineage] == ["prune", "prune"]


def test_it_can_be_trained_further(pruned, data, tmp_path):
    from optkit.training.finetune import FinetuneSettings, finetune

    made = finetune(pruned.path, data, tmp_path / "tuned", FinetuneSettings(epochs=1, max_length=32))
    assert made.config[CONFIG_KEY] == pruned.config[CONFIG_KEY]
    assert shape_of(load_model(made)) == pruned.config[CONFIG_KEY]


@pytest.mark.parametrize(("share", "reason"), [(0, "removed"), (1, "left"), (1.0, "left")])
def test_a_share_of_nothing_or_all_is_refused(share, reason):
    with pytest.raises(RecipeError, match=f"nothing would be {reason}"):
        Prune(share)


def test_a_share_beyond_what_can_be_cut_is_refused(checkpoint, context, tmp_path):
    with pytest.raises(PassError, match="cannot be met"):
        apply(Prune(0.99), fetch(checkpoint), tmp_path / "x", context)
    assert not (tmp_path / "x").exists()


def test_too_little_data_is_refused(checkpoint, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", sentences(8))
    write_jsonl(tmp_path / "validation.jsonl", sentences(8))
    little = make_context(open_task(fetch(checkpoint)), Data(str(tmp_path)))
    with pytest.raises(DataError, match="at least 32"):
        apply(Prune(0.5), fetch(checkpoint), tmp_path / "x", little)
    apply(Prune(0.5, criterion="magnitude"), fetch(checkpoint), tmp_path / "y", little)


def test_a_damaged_shape_is_refused(pruned, tmp_path):
    import shutil

    folder = shutil.copytree(pruned.path, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config[CONFIG_KEY]["heads"] = [9]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=CONFIG_KEY):
        load_model(folder)
