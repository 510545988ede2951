"""The cut model is the one whose norms look at the kept dimensions only; it reloads, and is cut again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.errors import CheckpointError
from optkit.models.checkpoint import fetch, load_model
from optkit.models.uneven.hidden import cut_width, width_of
from optkit.models.uneven.layout import sublayers
from optkit.passes.base import apply, make
from optkit.passes.distill import Distill
from optkit.passes.prune import Prune
from optkit.passes.prune_width import PruneWidth
from optkit.passes.pruning.width import importance, readers_of
from optkit.runtimes.base import infer_all, open_session
from tests.passes.pruning.models import build, feeds

KEEP = [0, 1, 2, 5, 8, 9, 20, 31]


def partial_norms(model, keep):
    """Every norm of the hidden state as one over the dimensions `keep`, zeros elsewhere."""
    inside = torch.zeros(width_of(model))
    inside[keep] = 1.0

    def norm(module, inputs, output):
        x = inputs[0] * inside
        mean = x.sum(-1, keepdim=True) / len(keep)
        apart = (x - mean) * inside
        scale = (apart.square().sum(-1, keepdim=True) / len(keep) + module.eps).rsqrt()
        return (apart * scale * module.weight + module.bias) * inside

    project = getattr(model.base_model, "embeddings_project", None)
    if project is not None:  # ELECTRA: no norm lies behind it
        project.register_forward_hook(lambda module, inputs, output: output * inside)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm) and module.normalized_shape == (width_of(model),):
            module.register_forward_hook(norm)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_the_cut_model_is_the_one_with_partial_norms(kind):
    model, partial = build(kind), build(kind)
    partial_norms(partial, KEEP)
    cut_width(model, KEEP, readers_of(model, feeds(kind)))
    assert width_of(model) == len(KEEP)
    assert sublayers(model)[0].inputs[0].weight.shape == (32, len(KEEP))
    with torch.inference_mode():
        assert (model(**feeds(kind)).logits - partial(**feeds(kind)).logits).abs().max() < 1e-5


def test_dead_dimensions_matter_least():
    model = build("bert")
    dead = [3, 30]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight[dead] = 0.0
                module.bias[dead] = 0.0
    assert set(np.argsort(importance(model, [feeds("bert")] * 2))[:2]) == set(dead)


def test_another_architecture_is_refused():
    with pytest.raises(CheckpointError, match="hidden dimension of 'gpt2'"):
        readers_of(build("gpt2"), feeds("gpt2"))


def test_it_reloads_prunes_distills_and_exports(checkpoint, context, tmp_path):
    from dataclasses import replace

    source = fetch(checkpoint)
    narrow = apply(PruneWidth(0.5, multiple=8), source, tmp_path / "narrow", context)
    assert narrow.lineage[-1]["notes"]["hidden"] == {"before": 32, "after": 16}
    assert width_of(load_model(narrow)) == 16
    assert narrow.size_bytes < source.size_bytes
    pruned = apply(Prune(0.3, ffn_multiple=8), narrow, tmp_path / "pruned", context)
    step = Distill(epochs=1, batch=16, relations=1.0)
    taught = apply(step, pruned, tmp_path / "taught", replace(context, origin=str(checkpoint)))
    notes = taught.lineage[-1]["notes"]
    assert (notes["hidden_states"], notes["relations"]) == (False, True)
    graph = apply(make("export-onnx", {}), taught, tmp_path / "onnx", context)
    encoded = context.encoded("test", None)
    with open_session(taught) as a, open_session(graph) as b:
        one, other = (np.stack(infer_all(s, encoded, 8, 512)["logits"]) for s in (a, b))
    assert np.abs(one - other).max() < 1e-4
