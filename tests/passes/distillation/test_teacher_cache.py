"""What the teacher says is the same from disk and from the teacher itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.models.checkpoint import load_model, model_inputs
from optkit.passes.distillation import teacher_cache
from optkit.passes.distillation.view import View, attention_of


@pytest.mark.parametrize("states", [(), (1, 2)])
def test_stored_and_live_agree(states, checkpoint, context, tmp_path, monkeypatch):
    model = load_model(checkpoint)
    view = View(model, states, attention_of(model) if states else None)
    encoded = context.encoded("train", 20)
    names = model_inputs(model)
    stored = teacher_cache.taught(view, encoded, names, tmp_path / "s")
    assert isinstance(stored, teacher_cache.Stored)
    monkeypatch.setattr(teacher_cache, "MOST_BYTES", 0)
    live = teacher_cache.taught(view, encoded, names, tmp_path / "l")
    assert isinstance(live, teacher_cache.Stored) is False
    indices = [3, 17, 4]
    feeds = {n: torch.from_numpy(a) for n, a in encoded.batch(np.array(indices)).items() if n in names}
    a, b = stored(indices, feeds), live(indices, feeds)
    assert torch.allclose(a.outputs["logits"], b.outputs["logits"], atol=1e-5)
    assert len(a.states) == len(b.states) == len(states)
    assert len(a.attention) == len(b.attention) == (3 if states else 0)
    valid = feeds["attention_mask"][..., None]
    for one, other in zip((*a.states, *a.attention), (*b.states, *b.attention)):
        assert torch.allclose(one * valid, other * valid, atol=2e-3, rtol=2e-3)  # half precision on disk


def test_a_value_per_token_comes_back_per_token(checkpoint, context, tmp_path):
    import transformers

    config = transformers.AutoConfig.from_pretrained(str(checkpoint))
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    view, encoded, names = View(model), context.encoded("train", 12), model_inputs(model)
    stored = teacher_cache.taught(view, encoded, names, tmp_path / "s")
    batch = encoded.batch(np.arange(5))
    feeds = {n: torch.from_numpy(batch[n]) for n in names}
    with torch.inference_mode():
        expected = model(**feeds).logits
    found = stored(range(5), feeds).outputs["logits"]
    valid = feeds["attention_mask"][..., None]
    assert found.shape == expected.shape
    assert torch.allclose(found * valid, expected * valid, atol=1e-5)


def test_they_are_computed_once(checkpoint, context, tmp_path, monkeypatch):
    view, encoded = View(load_model(checkpoint), (1,)), context.encoded("train", 20)
    names = model_inputs(view.model)
    teacher_cache.taught(view, encoded, names, tmp_path / "s")
    monkeypatch.setattr(teacher_cache, "_store", lambda *_: pytest.fail("computed again"))
    teacher_cache.taught(view, encoded, names, tmp_path / "s")


def test_what_a_model_keeps_of_its_first_answer_is_of_use_in_training(monkeypatch):
    """BEiT keeps where its patches lie; kept in inference mode, it could not be trained with."""

    class Keeping(torch.nn.Module):
        kept = None

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x, return_dict):
            self.kept = torch.arange(3.0) if self.kept is None else self.kept
            return {"logits": x * (self.weight * self.kept)}

    model, x = Keeping(), torch.ones(2, 3)
    monkeypatch.setattr(
        "optkit.passes.distillation.view.model_outputs", lambda model: {"logits": ("batch", 3)}
    )
    teacher_cache._shown(View(model), {"x": x})
    model(x=x, return_dict=True)["logits"].sum().backward()
    assert model.weight.grad.tolist() == [0.0, 2.0, 4.0]
