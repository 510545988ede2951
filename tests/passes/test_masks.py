"""Windows, causality and grouped heads at export: fused, and equal to transformers far past every window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.checkpoint import fetch, load_model
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.session import open_session
from optkit.task import open_task

TOKENS = 80
#: Architecture → changes to the tiny configuration, and how many kinds of mask its layers share.
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
KINDS = {
    "modernbert": ({"local_attention": 16, "num_hidden_layers": 4, "global_attn_every_n_layers": 2}, 2),
    "qwen3": (GROUPED, 1),
    "llama": (GROUPED, 1),
    "mistral": ({**GROUPED, "sliding_window": 12}, 1),
    "gemma3_text": (
        {
            **GROUPED,
            "sliding_window": 12,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        2,
    ),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 96, "n_inner": 64}, 1),
}
COMMON = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 96}


@pytest.fixture(scope="module", params=KINDS)
def family(request, make_checkpoint, tmp_path_factory):
    """(kind, checkpoint, graph), where the data to export with is a few short texts."""
    kind = request.param
    changes = {"cls_token_id": 2, "sep_token_id": 3} if kind == "modernbert" else {}
    source = fetch(make_checkpoint(kind, **{**COMMON, **changes, **KINDS[kind][0]}))
    context = make_context(open_task(source))
    return (
        kind,
        source,
        apply(make("export-onnx", {}), source, tmp_path_factory.mktemp(kind) / "onnx", context),
    )


def feeds(session, side: str) -> dict[str, np.ndarray]:
    """Three texts of unequal lengths, the longest past every window, padded on one side."""
    ids = np.random.default_rng(0).integers(5, 21, (3, TOKENS))
    mask = np.ones_like(ids)
    for row, length in enumerate((TOKENS, 30, 4)):
        mask[row, slice(length, None) if side == "right" else slice(0, TOKENS - length)] = 0
    ids[mask == 0] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    return {spec.name: given[spec.name] for spec in session.inputs}


def test_every_layer_is_fused_and_each_kind_of_mask_is_made_once(family):
    kind, _, made = family
    notes = made.lineage[-1]["notes"]
    assert notes["attention"] == "fused", notes
    nodes = [n for n in graph.load_graph(made.path).graph.node if n.op_type == "MultiHeadAttention"]
    assert len(nodes) == KINDS[kind][0].get("num_hidden_layers", 2)
    masks = {tuple(node.input[4:6]) for node in nodes}
    assert len(masks) <= KINDS[kind][1] + bool(notes["one_token_operators"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_it_equals_transformers_past_its_windows(family, side):
    kind, source, made = family
    if kind == "modernbert" and side == "left":
        pytest.skip("its head reads the first token, which is padding there: no answer to compare")
    model = load_model(source)
    with open_session(made) as session:
        given = feeds(session, side)
        with torch.inference_mode():
            right = model(**{n: torch.from_numpy(a) for n, a in given.items()}).logits.numpy()
        np.testing.assert_allclose(session.infer(given)["logits"], right, atol=1e-4)
        for length in (1, 7, 8, 9, 11, 12, 13, 16, 17, TOKENS):  # alone, about each window
            one = {n: a[:1, :length] for n, a in given.items()}
            with torch.inference_mode():
                right = model(**{n: torch.from_numpy(a) for n, a in one.items()}).logits.numpy()
            if side == "right":
                np.testing.assert_allclose(session.infer(one)["logits"], right, atol=1e-4)


def test_the_mask_reaches_openvino(family, tmp_path):
    pytest.importorskip("openvino")
    _, source, made = family
    context = make_context(open_task(source))
    with open_session(apply(make("open-vino", {}), made, tmp_path / "made", context)) as session:
        right, answer = _both(source, session)
    np.testing.assert_allclose(answer, right, atol=1e-3)


def test_int8_follows_it(family, tmp_path):
    _, source, made = family
    context = make_context(open_task(source))
    with open_session(apply(make("quantize-dynamic", {}), made, tmp_path / "made", context)) as session:
        right, answer = _both(source, session)
    assert np.corrcoef(answer.ravel(), right.ravel())[0, 1] > 0.9


def _both(source, session):
    """The logits of transformers and of `session` for a padded batch."""
    given, model = feeds(session, "right"), load_model(source)
    with torch.inference_mode():
        right = model(**{n: torch.from_numpy(a) for n, a in given.items()}).logits.numpy()
    return right, session.infer(given)["logits"]
