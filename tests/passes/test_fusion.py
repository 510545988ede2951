"""Fused attention, counted per architecture, and logits equal to torch's, padded and unpadded."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from optkit.models.checkpoint import fetch
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.fused_attention import NAME, switch
from optkit.tasks.base import open_task

LAYERS = 2
#: Architecture → layers whose attention becomes one node. DeBERTa's relative positions and MPNet's bias
#: enter the scores, which key_padding_mask cannot say; both keep plain attention in transformers.
FUSED = {
    "bert": LAYERS,
    "roberta": LAYERS,
    "distilbert": LAYERS,
    "electra": LAYERS,
    "mpnet": 0,
    "deberta-v2": 0,
}
TEXTS = ["a fine film", "the plot is thin and dull", "good"]


@pytest.fixture(scope="module", params=FUSED)
def family(request, make_checkpoint, tmp_path_factory):
    """(kind, checkpoint, graph, encoded texts)."""
    kind = request.param
    changes = {"max_position_embeddings": 66, "pad_token_id": 1} if kind == "mpnet" else {}
    source = fetch(make_checkpoint(kind, **changes))
    task = open_task(source)
    made = apply(make("export-onnx", {}), source, tmp_path_factory.mktemp(kind) / "onnx", make_context(task))
    return kind, source, made, task.encode(TEXTS)


def test_attention_is_fused_where_the_architecture_allows(family):
    kind, _, made, _ = family
    operators = made.lineage[-1]["notes"]["operators"]
    assert operators.get("MultiHeadAttention", 0) == FUSED[kind]
    assert made.lineage[-1]["notes"]["attention"] == ("fused" if FUSED[kind] else "plain")
    if FUSED[kind]:
        assert operators.get("Softmax", 0) == 0


def test_the_mask_is_made_once_for_all_layers(family):
    kind, _, made, _ = family
    nodes = [n for n in graph.load_graph(made.path).graph.node if n.op_type == "MultiHeadAttention"]
    assert len({node.input[4] for node in nodes}) == (1 if FUSED[kind] else 0)


def test_logits_equal_torch(family):
    """Texts alone and padded; and random ones, from one token to all that the model takes but for padding."""
    kind, source, made, encoded = family
    model = transformers.AutoModelForSequenceClassification.from_pretrained(str(source.path)).eval()
    session = onnxruntime.InferenceSession(
        str(made.path / graph.MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    batches = [encoded.batch(indices) for indices in ([0, 1, 2], [1], [0])]
    for rows, tokens, padding in [(1, 1, 0), (1, 7, 0), (3, 12, 5), (2, 60, 59)]:
        ids = np.random.default_rng(0).integers(5, 20, (rows, tokens))
        mask = np.ones_like(ids)
        mask[-1, tokens - padding :] = 0
        batches.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
    for batch in batches:
        feeds = {i.name: batch[i.name] for i in session.get_inputs()}
        with torch.inference_mode():
            expected = model(**{n: torch.from_numpy(a) for n, a in feeds.items()}).logits.numpy()
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=2e-5 if FUSED[kind] else 2e-4)


#: ONNX Runtime fuses these when it loads the graph; that it finds them shows that the export left their
#: patterns whole. The last LayerNorm works on one token and may stay by itself.
LOADED = {"BiasGelu": LAYERS, "SkipLayerNormalization": 2 * LAYERS - 1}


@pytest.mark.parametrize("operator", LOADED)
def test_the_runtime_fuses_the_rest_at_load(family, operator, tmp_path):
    kind, _, made, _ = family
    if not FUSED[kind]:
        pytest.skip("its attention is plain, and the runtime's own patterns vary with it")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.optimized_model_filepath = str(tmp_path / graph.MODEL_FILE)
    onnxruntime.InferenceSession(
        str(made.path / graph.MODEL_FILE), settings, providers=["CPUExecutionProvider"]
    )
    assert graph.operator_counts(graph.load_graph(tmp_path)).get(operator, 0) >= LOADED[operator]


def test_projections_are_packed_where_attention_is_fused(family):
    kind, _, made, _ = family
    notes = made.lineage[-1]["notes"]
    # Three in the first layer; in the last the query is of one token, and key and value are packed.
    assert notes["packed_projections"] == (3 * (LAYERS - 1) + 2 if FUSED[kind] else 0)
    assert (notes["one_token_operators"] > 0) == bool(FUSED[kind])


def test_whisper_encoder_attention_is_fused(tmp_path):
    """One node per layer, same answers; its flat products keep their reshapes to (batch, tokens, hidden)."""
    from optkit.passes.packed_projections import bypass_reshapes, pack

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=LAYERS,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        num_mel_bins=8,
        max_source_positions=12,
        vocab_size=60,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    encoder = transformers.WhisperModel(config).eval().get_encoder()
    sound = torch.randn(2, 8, 24)
    with torch.inference_mode():
        expected = encoder(sound).last_hidden_state.numpy()
    assert not switch(encoder, NAME, lambda: encoder(sound))
    program = torch.onnx.export(
        encoder, (sound,), dynamo=True, input_names=["input_features"], opset_version=20, verbose=False
    )
    program.save(str(tmp_path / graph.MODEL_FILE))
    model = graph.load_graph(tmp_path)
    assert graph.operator_counts(model)["MultiHeadAttention"] == LAYERS
    bypass_reshapes(model)
    pack(model)
    graph.save_graph(model, tmp_path)
    session = onnxruntime.InferenceSession(
        str(tmp_path / graph.MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {"input_features": sound.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)


def test_vision_attention_is_fused_too(tmp_path):
    """ViT has no mask: one node per layer, with no mask input."""
    from optkit.data.examples import EncodedSet
    from optkit.passes.torch_export import export

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=16,
        patch_size=4,
        num_labels=3,
    )
    model = transformers.ViTForImageClassification(config).eval()
    images = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).logits.numpy()
    assert not switch(model, NAME, lambda: model(torch.from_numpy(images)))
    samples = EncodedSet({"pixel_values": list(images)}, {})
    export(model, ["pixel_values"], ["logits"], samples, tmp_path / graph.MODEL_FILE, 20)
    nodes = [n for n in graph.load_graph(tmp_path).graph.node if n.op_type == "MultiHeadAttention"]
    assert len(nodes) == LAYERS
    assert all(len(node.input) < 5 or not node.input[4] for node in nodes)
    session = onnxruntime.InferenceSession(
        str(tmp_path / graph.MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run(None, {"pixel_values": images})[0], expected, atol=2e-4, rtol=1e-3)


def test_a_bias_by_position_is_passed_to_the_operator(tmp_path):
    """T5 adds one to the scores, beside the mask of the padding, which stays two-dimensional."""
    from optkit.data.examples import EncodedSet
    from optkit.passes.torch_export import export

    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": LAYERS, "num_heads": 2, "vocab_size": 40}
    near = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 16}
    model = transformers.T5ForTokenClassification(transformers.T5Config(**sizes, **near)).eval()
    for weight in model.parameters():  # attention far from even
        torch.nn.init.normal_(weight, 0.0, 0.3 if weight.dim() > 1 else 1.0)

    ids = np.random.default_rng(0).integers(3, 40, (2, 30))
    mask = np.ones_like(ids)
    mask[1, 9:] = 0

    def answer(ids, mask):
        with torch.inference_mode():
            return model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()

    expected = [
        answer(ids, mask),
        answer(ids[:, ::-1].copy(), mask[:, ::-1].copy()),
        answer(ids[:1, :1], mask[:1, :1]),
    ]
    assert not switch(model, NAME, lambda: answer(ids, mask))
    samples = EncodedSet({"input_ids": list(ids), "attention_mask": list(mask)}, {})
    names = ["input_ids", "attention_mask"]
    export(model, names, ["logits"], samples, tmp_path / graph.MODEL_FILE, 20)
    nodes = [n for n in graph.load_graph(tmp_path).graph.node if n.op_type == "MultiHeadAttention"]
    assert len(nodes) == LAYERS
    assert len({tuple(node.input[4:6]) for node in nodes}) == 1  # one mask and one bias for all layers
    assert all(nodes[0].input[4:6])
    session = onnxruntime.InferenceSession(
        str(tmp_path / graph.MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    given = [(ids, mask), (ids[:, ::-1].copy(), mask[:, ::-1].copy()), (ids[:1, :1], mask[:1, :1])]
    for right, (tokens, real) in zip(expected, given):
        received = session.run(None, dict(zip(names, (tokens, real))))[0]
        np.testing.assert_allclose(received[real == 1], right[real == 1], atol=2e-4, rtol=1e-3)
