"""A student of some of the teacher's layers: what is in it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch, load_model
from optkit.models.uneven.layout import sublayers
from optkit.passes.base import apply
from optkit.passes.prune import Prune
from optkit.passes.pruning.depth import keep_layers
from optkit.passes.take_layers import TakeLayers, evenly
from optkit.runtimes.base import infer_all, open_session
from tests.passes.pruning.models import TEXT, build, feeds


def test_even_distances_end_with_the_last():
    assert [evenly(6, n) for n in (1, 2, 3, 5)] == [[6], [3, 6], [2, 4, 6], [1, 2, 4, 5, 6]]


@pytest.mark.parametrize("kind", [*TEXT, "dinov2"])
def test_the_layers_are_the_teachers_own(kind):
    """The shallow model answers as the deep one whose other layers are passed over."""
    deep, shallow = build(kind), build(kind)
    keep_layers(shallow, [0, 2])
    passed = sublayers(deep)[2].layer

    def over(module, arguments, named, output):
        hidden = arguments[0] if arguments else named["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    passed.register_forward_hook(over, with_kwargs=True)
    with torch.inference_mode():
        difference = deep(**feeds(kind)).logits - shallow(**feeds(kind)).logits
    assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_it_reloads_without_optkit(kind, make_checkpoint, context, tmp_path):
    import transformers

    made = apply(TakeLayers(1), fetch(make_checkpoint(kind)), tmp_path / "x", context)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(str(made.path)).eval()
    ours, batch = load_model(made), {"input_ids": torch.tensor([[2, 7, 8, 3]])}
    with torch.inference_mode():
        assert torch.equal(plain(**batch).logits, ours(**batch).logits)
    assert made.lineage[-1]["notes"] == {"layers_before": 2, "layers_kept": [2]}


def test_a_pruned_checkpoint_keeps_its_widths(checkpoint, context, tmp_path):
    pruned = apply(Prune(0.5, criterion="random", refit="none"), fetch(checkpoint), tmp_path / "p", context)
    made = apply(TakeLayers(which=(2,)), pruned, tmp_path / "x", context)
    for kind, counts in pruned.config["optkit_pruned"].items():
        assert made.config["optkit_pruned"][kind] == counts[1:]
    with open_session(made) as session:
        logits = infer_all(session, context.encoded("test", None), 8, 512)["logits"]
    assert np.isfinite(np.stack(logits)).all()


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"layers": 2}, "fewer than the 2 layers"), ({"which": (3,)}, "fewer than the 2 layers")],
)
def test_no_fewer_layers_are_refused(fields, says, checkpoint, context, tmp_path):
    with pytest.raises(RecipeError, match=says):
        apply(TakeLayers(**fields), fetch(checkpoint), tmp_path / "x", context)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("fields", [{"which": (2, 1)}, {"which": (0,)}, {"layers": 2, "which": (1,)}])
def test_numbers_that_make_no_sense_are_refused(fields):
    with pytest.raises(RecipeError, match="take-layers"):
        TakeLayers(**fields)
