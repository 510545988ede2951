"""Rounding in training is that of the INT8 pass, lets gradients through, and leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optkit.passes.distillation.fake_int8 import fake_int8, rounded_input, rounded_weight
from tests.passes.pruning.models import build, feeds


def test_a_layer_answers_as_onnx_runtime_does_in_dynamic_int8(tmp_path):
    from onnx import helper, numpy_helper
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import QuantType, quantize_dynamic

    layer = torch.nn.Linear(64, 48, bias=False)
    x = torch.randn(4, 7, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight[5, 3], x[0, 0, 0] = 2.0, 12.0  # ranges of their own
    ends = (("x", ["a", "b", 64]), ("y", ["a", "b", 48]))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "layer",
        *([helper.make_tensor_value_info(name, 1, shape)] for name, shape in ends),
        [numpy_helper.from_array(layer.weight.detach().numpy().T.copy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    file = str(tmp_path / "int8.onnx")
    quantize_dynamic(model, file, per_channel=True, weight_type=QuantType.QInt8)
    wanted = InferenceSession(file).run(None, {"x": x.numpy()})[0]
    with fake_int8(torch.nn.Sequential(layer)), torch.no_grad():
        found = layer(x).numpy()
    assert np.abs(found - wanted).max() < 1e-4
    assert np.abs(layer(x).detach().numpy() - wanted).max() > 1e-2


@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit"])
def test_gradients_reach_every_weight_and_nothing_stays_behind(kind):
    model = build(kind)
    names, before = list(model.state_dict()), model(**feeds(kind)).logits
    with pytest.raises(KeyError), fake_int8(model):
        logits = model(**feeds(kind)).logits
        logits.square().sum().backward()
        raise KeyError
    assert not torch.equal(logits, before)
    unused = ("mask_token", "pooler")  # by this architecture's own choice
    assert all(p.grad is not None for n, p in model.named_parameters() if not any(x in n for x in unused))
    assert list(model.state_dict()) == names
    assert torch.equal(model(**feeds(kind)).logits, before)


def test_training_with_the_rounding_makes_the_rounded_model_better(monkeypatch):
    """With three levels, so that rounding costs more than chance: the same steps, looked at rounded."""
    monkeypatch.setattr("optkit.passes.distillation.fake_int8.WEIGHT", 1)
    batch, wanted = feeds("bert"), torch.tensor([[2.0, 0.0, -2.0], [-1.0, 1.0, 0.0], [0.0, -2.0, 2.0]])
    errors = []
    for aware in (False, True):
        model = build("bert")
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        for _ in range(60):
            with fake_int8(model, on=aware):
                loss = (model(**batch).logits - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with fake_int8(model), torch.no_grad():
            errors.append(float((model(**batch).logits - wanted).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_off_is_off():
    model = build("bert")
    before = model(**feeds("bert")).logits
    with fake_int8(model, on=False):
        assert torch.equal(model(**feeds("bert")).logits, before)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6),
    st.sampled_from([0, 1]),
)
def test_rounding_is_to_the_nearest_level_and_keeps_zero(numbers, axis):
    x = torch.tensor(numbers).reshape(2, 3)
    step = (x.amax().clamp_min(0) - x.amin().clamp_max(0)) / 255
    assert ((rounded_input(x) - x).abs() <= 0.5001 * step + 1e-6).all()
    steps = x.abs().amax(dim=1 - axis, keepdim=True) / 127
    assert ((rounded_weight(x, axis) - x).abs() <= 0.5001 * steps + 1e-6).all()
    for rounded in (rounded_input(x), rounded_weight(x, axis)):
        assert (rounded[x == 0] == 0).all()
