"""Folders that sentence-transformers wrote: every vector as `SentenceTransformer(folder).encode` gives it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError
from optkit.models.checkpoint import fetch, load_model, save_model
from optkit.models.sentence_folder import read_pooling
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.tasks.builders import embedder

library = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

TEXTS = ["a fine film", "the plot", "a fine film with a plot and the acting " * 4, "Fine [MASK] FILM Σ"]


def saved(tmp_path, *further, mode="mean", encoder=None, include_prompt=True, **settings):
    """A folder written by sentence-transformers: Transformer, Pooling, then `further`."""
    encoder = encoder or embedder(tmp_path / "encoder")
    first = modules.Transformer(str(encoder))
    pooling = modules.Pooling(32, mode, include_prompt=include_prompt)
    model = library.SentenceTransformer(modules=[first, pooling, *further], device="cpu", **settings)
    model.save_pretrained(str(tmp_path / "st"))
    return tmp_path / "st"


def dense(inputs, outputs, **settings):
    import torch

    torch.manual_seed(inputs + outputs)
    return modules.Dense(inputs, outputs, **{"activation_function": torch.nn.Tanh(), **settings})


def layer_norm(width):
    import torch

    layer = modules.LayerNorm(width)
    torch.nn.init.normal_(layer.norm.weight)
    return layer


def reference(folder, texts=TEXTS):
    import torch

    stated = {"dtype": torch.float32}
    return library.SentenceTransformer(str(folder), device="cpu", model_kwargs=stated).encode(texts)


def vectors(artifact, texts=TEXTS):
    task = open_task(artifact)
    with open_session(artifact) as session:
        return np.stack(task.decode(infer_all(session, task.encode(texts), 8, 512)))


def exported(folder, tmp_path):
    source = fetch(folder)
    return apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source)))


def relu():
    import torch

    return torch.nn.ReLU()


FURTHER = {
    "dense": lambda: [dense(32, 16)],
    "dense without bias, normalised": lambda: [dense(32, 8, bias=False), modules.Normalize()],
    "normalised between": lambda: [modules.Normalize(), dense(32, 16), modules.Normalize()],
    "several": lambda: [dense(32, 48, activation_function=relu()), layer_norm(48), dense(48, 12)],
    "no activation": lambda: [dense(32, 16, activation_function=None)],
    "residual": lambda: [dense(32, 32, use_residual=True), dense(32, 16, use_residual=True)],
    "dropout": lambda: [modules.Dropout(0.5), modules.Normalize()],
}


@pytest.mark.parametrize("name", FURTHER)
def test_modules_behind_the_pooling_equal_the_library(name, tmp_path):
    folder = saved(tmp_path, *FURTHER[name]())
    expected = reference(folder)
    np.testing.assert_allclose(vectors(fetch(folder)), expected, atol=1e-5)
    if name not in ("several", "residual"):  # they have all kinds of layers
        return
    graph = exported(folder, tmp_path)
    np.testing.assert_allclose(vectors(graph), expected, atol=1e-5)
    assert not [name for name in graph.manifest["files"] if name.endswith("_Dense/model.safetensors")]


@pytest.mark.parametrize(("asked", "width"), [(16, 16), (100, 32)])
def test_truncate_dim_cuts_and_does_not_normalise_again(asked, width, tmp_path):
    folder = saved(tmp_path, modules.Normalize(), truncate_dim=asked)
    expected = reference(folder)
    assert expected.shape[1] == width
    np.testing.assert_allclose(vectors(fetch(folder)), expected, atol=1e-5)
    np.testing.assert_allclose(vectors(exported(folder, tmp_path)), expected, atol=1e-5)


@pytest.mark.parametrize("asked", [0, -3, True, "16"])
def test_truncate_dim_that_leaves_nothing_is_refused(asked, tmp_path):
    folder = saved(tmp_path)
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncate_dim": asked}))
    with pytest.raises(CheckpointError, match="truncate_dim"):
        open_task(fetch(folder))


def test_lower_case_finds_special_tokens_first_and_takes_letters_one_by_one(tmp_path):
    encoder = embedder(tmp_path / "encoder")
    state = json.loads((encoder / "tokenizer.json").read_text())
    state["normalizer"] = None
    (encoder / "tokenizer.json").write_text(json.dumps(state))
    folder = saved(tmp_path, encoder=encoder)
    plain = vectors(fetch(folder))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    lowered = vectors(fetch(folder))
    np.testing.assert_allclose(lowered, reference(folder), atol=1e-5)
    assert np.abs(plain - lowered)[3].max() > 1e-3


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_roberta_config.json"])
@pytest.mark.parametrize(("stated", "tokens"), [(10, 10), (40, 40), (None, 20)])
def test_max_seq_length_stands_above_the_tokenizers_own(name, stated, tokens, tmp_path):
    encoder = embedder(tmp_path / "encoder")
    file = encoder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 20}))
    folder = saved(tmp_path, encoder=encoder)
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_text(json.dumps({"max_seq_length": stated} if stated else {"do_lower_case": False}))
    long = ["film plot " * 40]
    assert open_task(fetch(folder)).encode(long).lengths.tolist() == [tokens]
    graph = exported(folder, tmp_path)
    np.testing.assert_allclose(vectors(graph, long), reference(folder, long), atol=1e-5)
    assert open_task(graph).encode(long).lengths.tolist() == [tokens]


def test_a_default_prompt_is_put_before_every_text(tmp_path):
    prompts = {"query": "the plot ", "other": None}
    folder = saved(tmp_path, prompts=prompts, default_prompt_name="query")
    np.testing.assert_allclose(vectors(fetch(folder)), reference(folder), atol=1e-5)


def test_a_pooling_that_leaves_prompts_out_is_taken_where_there_is_no_prompt(tmp_path):
    folder = saved(tmp_path, include_prompt=False, prompts={"query": "the plot "})
    np.testing.assert_allclose(vectors(fetch(folder)), reference(folder), atol=1e-5)
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"default_prompt_name": "query"}))
    with pytest.raises(CheckpointError, match="include_prompt"):
        open_task(fetch(folder))


def qwen3(folder, architecture="Qwen3Model", **settings):
    import torch
    import transformers

    from tests.conftest import write_tokenizer

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    config = transformers.Qwen3Config(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        **settings,
    )
    getattr(transformers, architecture)(config).save_pretrained(str(folder))
    return folder


def test_a_decoder_padded_on_the_left_gives_its_last_token(tmp_path):
    """Qwen3-Embedding's layout: the library pads on the left, optkit on the right."""
    folder = saved(
        tmp_path, modules.Normalize(), mode="lasttoken", encoder=qwen3(tmp_path / "qwen3"), truncate_dim=24
    )
    expected = reference(folder)
    np.testing.assert_allclose(vectors(fetch(folder)), expected, atol=1e-5)
    graph = exported(folder, tmp_path)
    np.testing.assert_allclose(vectors(graph), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["lasttoken", "weightedmean", "mean", "max", "mean_sqrt_len_tokens"])
def test_padding_on_either_side_gives_the_same_vector(mode, tmp_path):
    import torch

    model = load_model(saved(tmp_path, mode=mode, encoder=qwen3(tmp_path / "qwen3")), "embeddings")
    ids = torch.tensor([[2, 7, 9, 3]])
    right = torch.nn.functional.pad(ids, (0, 3)), torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    left = torch.nn.functional.pad(ids, (3, 0)), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    with torch.inference_mode():
        a, b = (model(input_ids=x, attention_mask=m)["sentence_embedding"] for x, m in (right, left))
    np.testing.assert_allclose(a, b, atol=1e-5)


def gemma3(folder, side):
    """EmbeddingGemma's kind: attention in both directions, a window in every other layer."""
    import torch
    import transformers

    from tests.conftest import write_tokenizer

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    change(folder, "tokenizer_config.json", padding_side=side)
    config = transformers.Gemma3TextConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        intermediate_size=64,
        max_position_embeddings=64,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        use_bidirectional_attention=True,
        pad_token_id=0,
    )
    transformers.Gemma3TextModel(config).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bidirectional_decoder_with_a_window_and_dense_modules(side, tmp_path):
    """Few tokens, past the window, and the longest: together, so that all but one are padded."""
    layers = (
        dense(32, 48, bias=False, activation_function=None),
        dense(48, 32, bias=False),
        modules.Normalize(),
    )
    prompts = {"query": "the plot ", "document": "a "}
    folder = saved(tmp_path, *layers, encoder=gemma3(tmp_path / "gemma3", side), prompts=prompts)
    texts = ["film", "a fine film with a plot", "good cast " * 5, "the plot is thin " * 40]
    expected = reference(folder, texts)
    np.testing.assert_allclose(vectors(fetch(folder), texts), expected, atol=1e-5)
    if side == "left":
        np.testing.assert_allclose(vectors(exported(folder, tmp_path), texts), expected, atol=1e-5)


def test_a_decoder_without_modules_json_is_pooled_at_its_last_token(tmp_path):
    folder = qwen3(tmp_path / "qwen3", "Qwen3ForCausalLM")
    assert read_pooling(folder).modes == ("lasttoken",)
    assert read_pooling(embedder(tmp_path / "plain")).modes == ("mean",)


@pytest.mark.parametrize("stated", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_chat_template_is_refused_where_the_library_would_use_it(stated, tmp_path):
    """It does so with folders that it did not save; those say which of the two texts are."""
    folder = qwen3(tmp_path / "qwen3")
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    if stated.endswith("json"):
        change(folder, stated, chat_template=template)
    else:
        (folder / stated).write_text(template)
    with pytest.raises(CheckpointError, match="has a chat template") as refused:
        open_task(fetch(folder), "embeddings")
    assert "Delete" in refused.value.hint
    with pytest.raises(CheckpointError, match="modality_config"):
        open_task(fetch(saved(tmp_path, mode="lasttoken", encoder=folder)))


@pytest.mark.parametrize("kind", ["SparseEncoder", "CrossEncoder", "MultiVectorEncoder"])
def test_other_kinds_of_models_are_refused_by_their_name(kind, tmp_path):
    folder = saved(tmp_path)
    change(folder, "config_sentence_transformers.json", model_type=kind)
    with pytest.raises(CheckpointError, match=kind):
        open_task(fetch(folder))


def test_a_t5_encoder_with_a_dense(tmp_path):
    import torch
    import transformers

    from tests.conftest import write_tokenizer

    encoder = tmp_path / "t5"
    encoder.mkdir()
    write_tokenizer(encoder)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, is_encoder_decoder=False
    )
    transformers.T5EncoderModel(config).save_pretrained(str(encoder))
    folder = saved(
        tmp_path, dense(32, 24, bias=False, activation_function=None), modules.Normalize(), encoder=encoder
    )
    np.testing.assert_allclose(vectors(fetch(folder)), reference(folder), atol=1e-5)


def test_what_is_saved_again_opens_in_the_library_with_equal_vectors(tmp_path):
    folder = saved(tmp_path, dense(32, 16), layer_norm(16), truncate_dim=9)
    source = fetch(folder)
    model = load_model(source)
    model.layers[0].linear.bias.data += 0.25
    out = tmp_path / "again"
    out.mkdir()
    save_model(model, source, out)
    np.testing.assert_allclose(reference(out), vectors(fetch(out)), atol=1e-5)
    assert np.abs(reference(out) - reference(folder)).max() > 1e-2


def test_the_weights_of_a_dense_count_for_the_checkpoint(tmp_path):
    folder = saved(tmp_path, dense(32, 16))
    before, size = Artifact.open(folder).fingerprint(), Artifact.open(folder).size_bytes
    file = folder / "2_Dense" / "model.safetensors"
    assert size > file.stat().st_size + (folder / "model.safetensors").stat().st_size - 1
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert Artifact.open(folder).fingerprint() != before


def change(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


REFUSED = {
    "another activation": ("2_Dense/config.json", {"activation_function": "torch.nn.Softmax"}, "Softmax"),
    "an activation of its own": ("2_Dense/config.json", {"activation_function": "os.system"}, "os.system"),
    "a width that does not fit": ("2_Dense/config.json", {"in_features": 31}, "to take 32 numbers"),
    "a shape that does not fit": ("2_Dense/config.json", {"out_features": 17}, "do not fit its config"),
    "no bias": ("2_Dense/config.json", {"bias": False}, "do not fit its config"),
    "token vectors": ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
    "a task": ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
    "settings of the tokenizer": (
        "sentence_bert_config.json",
        {"tokenizer_args": {"add_special_tokens": False}},
        "add_special_tokens",
    ),
    "a similarity": ("config_sentence_transformers.json", {"similarity_fn_name": "maxsim"}, "maxsim"),
    "a prompt that is not there": (
        "config_sentence_transformers.json",
        {"default_prompt_name": "missing"},
        "default_prompt_name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_is_refused_by_its_name(name, tmp_path):
    folder = saved(tmp_path, dense(32, 16))
    file, values, message = REFUSED[name]
    change(folder, file, **values)
    with pytest.raises(CheckpointError, match=message):
        open_task(fetch(folder))
        load_model(folder)


@pytest.mark.parametrize("kind", ["Router", "Asym", "WeightedLayerPooling", "CNN", "LSTM", "StaticEmbedding"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_other_modules_are_refused_by_their_name(kind, place, tmp_path):
    folder = saved(tmp_path, dense(32, 16))
    listed = json.loads((folder / "modules.json").read_text())
    listed[place]["type"] = f"sentence_transformers.models.{kind}"
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=kind):
        open_task(fetch(folder))


def test_a_dense_without_safetensors_is_refused(tmp_path):
    folder = saved(tmp_path, dense(32, 16))
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="weights of Dense"):
        open_task(fetch(folder))


@pytest.mark.parametrize(("name", "same"), [("cosine", True), ("dot", False), ("euclidean", False)])
def test_a_vector_of_another_length_is_the_same_only_where_length_does_not_count(name, same, tmp_path):
    task = open_task(fetch(saved(tmp_path, similarity_fn_name=name)))
    vector = np.ones(32, np.float32)
    outputs = [{"sentence_embedding": [vector * x]} for x in (1.0, 1.1, 1.2)]
    assert [bool(task.same(x, outputs[0])[0]) for x in outputs] == [True, True, same]


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_pairs_are_compared_as_the_folder_says(name, tmp_path):
    from scipy import stats

    folder = saved(tmp_path, similarity_fn_name=name)
    task = open_task(fetch(folder))
    given = [0.1, 0.9, 0.4]
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[2]), (TEXTS[0], TEXTS[3])]
    outputs = {"sentence_embedding": vectors(fetch(folder), [text for pair in pairs for text in pair])}
    model = library.SentenceTransformer(str(folder), device="cpu")
    expected = model.similarity_pairwise(*(model.encode([p[i] for p in pairs]) for i in (0, 1))).numpy()
    answers = task.answers(outputs)
    np.testing.assert_allclose(task._similarities(answers), expected, atol=1e-4)
    assert task.score(answers, given) == pytest.approx(stats.spearmanr(expected, given).statistic)
    nearest = model.similarity(model.encode([p[0] for p in pairs]), model.encode([p[1] for p in pairs]))
    np.testing.assert_allclose(task._near(answers[:, 0], answers[:, 1]), nearest, atol=1e-4)
