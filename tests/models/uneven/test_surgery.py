"""The cut model is the masked model, for every architecture; it is saved, loaded, and cut again."""

from __future__ import annotations

import pytest

from optkit.errors import CheckpointError
from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.loading import from_pretrained, reshape
from optkit.models.uneven.surgery import cut, record, shape_of
from optkit.passes.pruning.masks import masked
from tests.passes.pruning.models import ALL, IMAGE, MORE, build, feeds

#: Units kept per sublayer, from the bottom: some, all, one, none.
KEEP = ([0, 2], [1, 5, 7, 40], [3], [], [0, 1, 2, 3], list(range(16)))
AGAIN = ([1], [0, 3], [0], [], [2], [4, 5])


def answer(model, kind):
    import torch

    with torch.inference_mode():
        return model(**feeds(kind)).logits


def kept(model, plan):
    """`plan`, with an empty attention where the architecture allows it."""
    plan = list(plan)
    if not sublayers(model)[4].minimum:
        plan[4] = []
    return plan


@pytest.mark.parametrize("kind", [*ALL, *MORE])
def test_the_cut_model_is_the_masked_model(kind, tmp_path):
    import transformers

    model = build(kind)
    auto = transformers.AutoModelForSequenceClassification
    if kind in IMAGE:
        auto = transformers.AutoModelForImageClassification
    full = answer(model, kind)
    for plan in (KEEP, AGAIN):
        places = sublayers(model)
        plan = [p if place.units else [] for p, place in zip(kept(model, plan), places)]
        masks = {}
        for place, keep in zip(places, plan):
            masks[place] = [float(i in keep) for i in range(place.units)]
        with masked(masks):
            expected = answer(model, kind)
        for place, keep in zip(places, plan):
            cut(place, keep)
        record(model)
        assert shape_of(model)["heads"] == [len(p) for p in plan[::2]]
        assert shape_of(model)["ffn"] == [len(p) for p in plan[1::2]]
        assert (answer(model, kind) - expected).abs().max() < 1e-5
        assert (expected - full).abs().max() > 1e-3, "the masks changed nothing"
        model.save_pretrained(str(tmp_path))
        model, info = from_pretrained(auto, str(tmp_path), output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert type(model).__name__ in model.config.architectures
        assert (answer(model.eval(), kind) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_pruned_model_trains(kind):
    model = build(kind)
    for place, keep in zip(sublayers(model), KEEP):
        cut(place, keep)
    model(**feeds(kind)).logits.sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    unused = {"transformer.h.1.ln_2.weight", "transformer.h.1.ln_2.bias"}  # the norm before no FFN
    assert without == (unused if kind == "gpt2" else set())


def test_decoders_keep_a_head():
    assert [s.minimum for s in sublayers(build("llama"))] == [1, 0] * 3


def test_grouped_heads_go_together():
    place = sublayers(build("llama"))[0]
    assert (place.units, place.width) == (4, 8)
    cut(place, [1])
    assert [m.out_features for m in place.inputs] == [8, 4, 4]


def test_an_unknown_architecture_is_refused():
    import transformers

    config = transformers.AutoConfig.for_model(
        "albert", hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=40
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(CheckpointError, match="albert") as caught:
        sublayers(model)
    assert "bert" in caught.value.hint


@pytest.mark.parametrize(
    "shape",
    [{"heads": [1, 1]}, {"heads": [5, 1, 1], "ffn": [1, 1, 1]}, {"heads": [1, 1, 1], "ffn": [1, -1, 1]}, []],
)
def test_a_shape_that_does_not_fit_is_refused(shape):
    with pytest.raises(CheckpointError, match=CONFIG_KEY):
        reshape(build("bert"), shape)
