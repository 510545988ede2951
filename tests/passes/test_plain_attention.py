"""Fused attention written out: equal to the operator under every mask that the export passes on."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from optkit.passes.plain_attention import unfuse

BATCH, TOKENS, HEADS, HIDDEN = 2, 6, 2, 8


def band(width: int) -> np.ndarray:
    """(1, 1, tokens, tokens): what a token may not see, `width` tokens away or more, or behind it."""
    place = np.arange(TOKENS)
    seen = (place[:, None] - place[None, :] < width) & (place[None, :] <= place[:, None])
    return np.where(seen, 0.0, -10000.0).astype(np.float32)[None, None]


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "bias",
    [
        None,
        band(3),
        np.repeat(band(2), BATCH, axis=0),
        np.random.default_rng(3).normal(size=(1, HEADS, TOKENS, TOKENS)).astype(np.float32),
    ],
    ids=["none", "window", "window of each text", "distances of each head"],
)
def test_it_equals_the_operator(bias, padded):
    rng = np.random.default_rng(0)
    feeds = {n: rng.normal(size=(BATCH, TOKENS, HIDDEN)).astype(np.float32) for n in "qkv"}
    mask = np.ones((BATCH, TOKENS), np.int32)
    mask[1, -2:] = 0
    model = _graph(mask if padded else None, bias)
    expected = _run(model, feeds)
    assert unfuse(model) == 2
    assert {node.domain for node in model.graph.node} == {""}
    for a, b in zip(_run(model, feeds), expected):
        np.testing.assert_allclose(a, b, atol=1e-5)


def _graph(mask: np.ndarray | None, bias: np.ndarray | None):
    """Two attentions over the same inputs, masks shared, with the inputs in both orders."""
    constants = {name: value for name, value in (("mask", mask), ("bias", bias)) if value is not None}
    told = ["", "mask" if mask is not None else "", "bias" if bias is not None else ""]
    nodes = [
        helper.make_node(
            "MultiHeadAttention",
            [*inputs, *told],
            [out],
            out,
            domain="com.microsoft",
            num_heads=HEADS,
            scale=0.5,
        )
        for inputs, out in (("qkv", "first"), ("kqv", "second"))
    ]
    shape = [BATCH, TOKENS, HIDDEN]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "qkv"],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("first", "second")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    versions = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def _run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)
