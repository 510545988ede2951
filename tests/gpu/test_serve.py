"""Passes that record how torch or ONNX Runtime is to serve, and torch's options behind them."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import MissingDependency, OptkitError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.runtimes.base import open_session
from optkit.runtimes.cuda.buckets import cut, fill, rounded


def feeds_of(session, batch, tokens):
    ids = np.random.default_rng(0).integers(5, 20, (batch, tokens))
    made = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
    return {s.name: made[s.name] for s in session.inputs}


def test_the_manifest_says_how_torch_serves(checkpoint, context, tmp_path):
    fields = {"dtype": "bf16", "attention": "eager"}
    made = apply(make("serve-torch", fields), fetch(checkpoint), tmp_path / "m", context)
    options = {"device": "cpu", "dtype": "bf16", "attention": "eager", "compile": False}
    assert Artifact.open(made.path).manifest["runtime"] == {"name": "torch", "options": options}
    assert made.precision == "bf16"
    with (
        open_session(made) as session,
        open_session(fetch(checkpoint), dtype="bf16", attention="eager") as by,
    ):
        feeds = feeds_of(session, 2, 5)
        np.testing.assert_array_equal(session.infer(feeds)["logits"], by.infer(feeds)["logits"])


def test_8_bits_are_the_precision_of_the_result(checkpoint, context, tmp_path):
    step = make("serve-torch", {"quantize": "int8"})
    made = apply(step, fetch(checkpoint), tmp_path / "m", context)
    assert made.precision == "int8"
    assert made.manifest["runtime"]["options"]["quantize"] == "int8"


def test_onnx_runtime_is_told_its_provider(plain, context, tmp_path, monkeypatch):
    made = apply(make("serve-onnx-runtime", {"provider": "cuda"}), plain, tmp_path / "m", context)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependency, match="no CUDA provider"):
        open_session(made)


def test_shapes_of_a_compiled_model_are_rounded_up_and_answers_cut(checkpoint):
    """What `compile` on a GPU does, on the CPU: the graph of a bucket sees only its shape."""
    with open_session(fetch(checkpoint)) as plain, open_session(fetch(checkpoint)) as session:
        seen = []
        model = session._model

        def spy(**tensors):
            seen.append(tuple(tensors["input_ids"].shape))
            return model(**tensors)

        session._model, session._buckets = spy, True
        for batch, tokens in ((3, 5), (4, 30), (1, 33), (2, 64)):
            feeds = feeds_of(session, batch, tokens)
            found, expected = session.infer(feeds)["logits"], plain.infer(feeds)["logits"]
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert seen == [(4, 32), (4, 32), (1, 64), (2, 64)]  # 64 tokens are the model's most


def test_buckets_never_shrink_a_batch():
    assert rounded(9, 17, (8, 16), 16) == (9, 17)
    feeds = fill({"input_ids": np.ones((3, 5), int)}, 4, 8)
    assert feeds["input_ids"].shape == (4, 8)
    assert not feeds["input_ids"][:, 5:].any()
    back = cut({"per": np.ones((4, 8, 2)), "one": np.ones((4, 8))}, ["per"], 3, 5)
    assert (back["per"].shape, back["one"].shape) == ((3, 5, 2), (3, 8))


def test_torchao_quantizes_the_layers_that_8_bit_units_take(checkpoint, monkeypatch):
    from torch.nn import Linear

    asked = []

    def quantize_(model, config, filter_fn):
        asked.append(config)
        asked.append({n for n, m in model.named_modules() if filter_fn(m, n)})
        asked.append({n for n, m in model.named_modules() if isinstance(m, Linear)})

    module = types.ModuleType("torchao.quantization")
    module.quantize_ = quantize_
    module.Int8DynamicActivationInt8WeightConfig = lambda: "int8 by row"
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", module)
    sys.modules["torchao"].quantization = module
    with open_session(fetch(checkpoint), quantize="int8"):
        config, taken, linear = asked
    assert config == "int8 by row"
    assert linear - taken == {"classifier"}


def test_real_torchao_answers_like_the_source(checkpoint):
    pytest.importorskip("torchao", reason="torchao is not installed (extra torchao)")
    with open_session(fetch(checkpoint)) as a, open_session(fetch(checkpoint), quantize="int8") as b:
        feeds = feeds_of(a, 2, 9)
        before, after = a.infer(feeds)["logits"], b.infer(feeds)["logits"]
    assert (before != after).any()
    np.testing.assert_allclose(after, before, atol=0.1 * np.abs(before).max())


def test_without_torchao_the_extra_is_named(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(MissingDependency) as raised:
        open_session(fetch(checkpoint), quantize="int8")
    assert "optkit[torchao]" in raised.value.hint
    with pytest.raises(OptkitError, match="quantize"):
        open_session(fetch(checkpoint), quantize="int4")
