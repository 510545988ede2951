"""Windows, causality and grouped heads at export: fused, and equal to transformers far past every window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.data.examples import EncodedSet
from optkit.models.checkpoint import fetch, load_model
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.tasks.base import open_task
from tests.models.build import shake

TOKENS, LONGEST = 80, 96
#: Architecture → changes to the tiny configuration, and how many kinds of mask its layers share.
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
KINDS = {
    "modernbert": ({"local_attention": 16, "num_hidden_layers": 4, "global_attn_every_n_layers": 2}, 2),
    "qwen3": (GROUPED, 1),
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
    folder = make_checkpoint(kind, **{**COMMON, **changes, **KINDS[kind][0]})
    model = load_model(folder)
    shake(model)  # attention is far from even: what a token may see matters
    model.save_pretrained(str(folder))
    source = fetch(folder)
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


#: Engine → its pass, and the largest difference to transformers as a share of the answers' range.
ENGINES = {
    "OpenVINO": ("open-vino", {}, 1e-3),
    "OpenVINO, INT8": ("open-vino-int8", {"samples": 48}, 0.1),
    "ONNX Runtime, static INT8": ("quantize-static", {}, 0.1),
    "ONNX Runtime, dynamic INT8": ("quantize-dynamic", {}, 0.1),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_follows_transformers_about_each_window(family, engine, tmp_path):
    """At each window ± 1, at the longest input, and padded on both sides. Where a model that forgot its
    window or the padding would be furthest off, the engine is nearer to the right answer than to that one."""
    name, settings, share = ENGINES[engine]
    if name.startswith("open-vino"):
        pytest.importorskip("openvino")
    kind, source, made = family
    if kind == "mistral":
        pytest.skip("its mask is that of another architecture here")
    context = make_context(open_task(source), calibration=_texts())
    given = _inputs(kind)
    with open_session(apply(make(name, settings), made, tmp_path / "made", context)) as session:
        answers = np.concatenate([session.infer(feeds)["logits"] for feeds in given])
    model = load_model(source)
    right = _answers(model, given)
    assert np.abs(answers - right).max() < share * np.ptp(right)

    ones = [{**feeds, "attention_mask": np.ones_like(feeds["attention_mask"])} for feeds in given]
    wrong = [_answers(model, ones)]
    if {"local_attention", "sliding_window"} & set(KINDS[kind][0]):
        model.config.sliding_window = 2 * LONGEST
        wrong.append(_answers(model, given))
    for other in wrong:
        worst = np.unravel_index(np.abs(other - right).argmax(), right.shape)
        assert abs(answers[worst] - right[worst]) < 0.5 * abs(other[worst] - right[worst])


def _inputs(kind: str) -> list[dict[str, np.ndarray]]:
    """Texts alone of the lengths about each window, and three together, padded on either side."""
    sizes = [[n] for n in (1, 7, 8, 9, 11, 12, 13, 15, 16, 17, LONGEST)]
    sides = ["right"] if kind == "modernbert" else ["right", "left"]  # its head reads the first token
    return [_padded(n, "right") for n in sizes] + [_padded([LONGEST, 30, 4], side) for side in sides]


def _padded(sizes: list[int], side: str) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(5, 21, (len(sizes), max(sizes)))
    place, size = np.arange(max(sizes))[None, :], np.array(sizes)[:, None]
    mask = place < size if side == "right" else place >= max(sizes) - size
    return {"input_ids": np.where(mask, ids, 0), "attention_mask": mask.astype(np.int64)}


def _answers(model, given: list[dict[str, np.ndarray]]) -> np.ndarray:
    with torch.inference_mode():
        batches = ({name: torch.from_numpy(a) for name, a in feeds.items()} for feeds in given)
        return np.concatenate([model(**batch).logits.numpy() for batch in batches])


def _texts() -> EncodedSet:
    """Random texts of all lengths, to take ranges from."""
    rng = np.random.default_rng(1)
    ids = [rng.integers(5, 21, n) for n in rng.integers(4, LONGEST + 1, 48)]
    return EncodedSet({"input_ids": ids, "attention_mask": [np.ones_like(row) for row in ids]}, {})
