"""LoRA folders that peft wrote: every answer as `PeftModel` gives it, whatever settings the adapter has."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import optkit
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError
from optkit.models import adapter
from optkit.models.checkpoint import fetch, load_model
from tests.conftest import tiny, write_tokenizer

peft = pytest.importorskip("peft")
IDS = [[2, 7, 9, 11, 3], [2, 20, 8, 5, 3]]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "optkit" / "merged"


def trained(base, out, auto="AutoModelForSequenceClassification", labels=None, **settings):
    """An adapter as training leaves it, and the logits of peft's model with it."""
    import torch
    import transformers

    torch.manual_seed(1)
    more = {} if labels is None else {"num_labels": labels}
    model = getattr(transformers, auto).from_pretrained(str(base), dtype=torch.float32, **more)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **settings}
    whole = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    with torch.no_grad():
        for name, weight in whole.named_parameters():
            if "lora_" in name or "modules_to_save" in name or weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.3)
        logits = whole(input_ids=torch.tensor(IDS)).logits.numpy()
    whole.save_pretrained(str(out))
    return out, logits


def answered(artifact):
    import torch

    with torch.inference_mode():
        return load_model(artifact)(input_ids=torch.tensor(IDS)).logits.numpy()


SETTINGS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "r": 9},
    "weight-decomposed": {"use_dora": True},
    "ranks by layer": {"rank_pattern": {"layer.1.attention.self.query": 2}, "alpha_pattern": {"value": 32}},
    "one layer": {"layers_to_transform": [1], "layers_pattern": "layer"},
    "all linear layers": {"target_modules": "all-linear"},
    "by an expression": {"target_modules": r".*\.(query|dense)", "exclude_modules": ["classifier"]},
    "embeddings": {"target_modules": ["word_embeddings", "query"]},
    "biases": {"bias": "lora_only", "lora_bias": True},
    "all biases": {"bias": "all"},
    "a head of its own": {"modules_to_save": ["classifier"], "task_type": "SEQ_CLS"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_merged_adapter_answers_as_peft_does(name, checkpoint, tmp_path):
    folder, expected = trained(checkpoint, tmp_path / "adapter", **SETTINGS[name])
    artifact = fetch(folder)
    np.testing.assert_allclose(answered(artifact), expected, atol=1e-4)
    assert np.abs(expected - answered(fetch(checkpoint))).max() > 1e-2
    assert artifact.lineage[0]["pass"] == adapter.STEP
    artifact.verify()


def test_the_product_is_that_of_the_paper(checkpoint, tmp_path):
    """W + B A alpha / r, worked out here by hand."""
    from safetensors.numpy import load_file

    folder, _ = trained(checkpoint, tmp_path / "adapter")
    before, after = (load_file(str(path / "model.safetensors")) for path in (checkpoint, fetch(folder).path))
    weights = load_file(str(folder / adapter.WEIGHTS))
    layer = "bert.encoder.layer.1.attention.self.value"
    a, b = (weights[f"base_model.model.{layer}.lora_{x}.weight"] for x in "AB")
    np.testing.assert_allclose(after[f"{layer}.weight"], before[f"{layer}.weight"] + b @ a * 8 / 4, atol=1e-5)


def plain(folder, architecture="BertForMaskedLM", kind="bert", **changes):
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    config = transformers.AutoConfig.for_model(kind, **{**tiny("bert"), **changes})
    getattr(transformers, architecture)(config).save_pretrained(str(folder))
    return folder


def test_a_head_that_the_base_lacks_comes_from_the_adapter(tmp_path):
    """Its number of labels stands in no settings file: the weights have it."""
    base = plain(tmp_path / "base", "BertModel")
    settings = {"modules_to_save": ["classifier"], "task_type": "SEQ_CLS"}
    auto = "AutoModelForSequenceClassification"
    folder, expected = trained(base, tmp_path / "adapter", auto, labels=5, **settings)
    artifact = fetch(folder)
    assert (artifact.config["architectures"], len(artifact.config["id2label"])) == (
        ["BertForSequenceClassification"],
        5,
    )
    with pytest.raises(CheckpointError, match="pooler"):  # random in the base, and peft saved the head alone
        fetch(trained(plain(tmp_path / "bare"), tmp_path / "other", auto, labels=5, **settings)[0])
    np.testing.assert_allclose(answered(artifact), expected, atol=1e-4)


def test_the_transposed_layers_of_gpt2(tmp_path):
    base = plain(tmp_path / "base", "GPT2LMHeadModel", "gpt2", n_embd=32, n_layer=2, n_head=2)
    settings = {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}
    folder, expected = trained(base, tmp_path / "adapter", "AutoModelForCausalLM", **settings)
    np.testing.assert_allclose(answered(fetch(folder)), expected, atol=1e-4)


def test_a_tied_table_is_refused(tmp_path):
    base = plain(tmp_path / "base", "GPT2LMHeadModel", "gpt2", n_embd=32, n_layer=2, n_head=2)
    settings = {"target_modules": ["wte"], "task_type": "CAUSAL_LM"}
    folder, _ = trained(base, tmp_path / "adapter", "AutoModelForCausalLM", **settings)
    with pytest.raises(CheckpointError, match=r"answers otherwise than apart .* \(tied\)"):
        fetch(folder)


def test_from_an_adapter_to_an_artifact(checkpoint, data, tmp_path, cache):
    """Compressed, benched, trained further and asked; merged once for all of them."""
    folder, _ = trained(checkpoint, tmp_path / "adapter", modules_to_save=["classifier"], task_type="SEQ_CLS")
    recipe = optkit.Recipe.of(["export-onnx"], optkit.Gate(max_drop=None))
    quick = {"data": data, "shapes": ("1x8",), "rounds": 1, "processes": 1}
    report = optkit.compress(folder, recipe, out=tmp_path / "out", **quick)
    assert any(line.startswith("The checkpoint is the LoRA adapter adapter merged") for line in report.doubts)
    assert Artifact.open(tmp_path / "out").lineage[0]["pass"] == adapter.STEP
    assert all(row.agreement == 1 for row in report.rows)
    texts = ["a fine film", "dull"]
    with optkit.load(tmp_path / "out") as ours, optkit.load(folder) as plain:
        for a, b in zip(ours.predict(texts), plain.predict(texts)):
            assert (a.label, a.score) == (b.label, pytest.approx(b.score, abs=1e-5))
    assert optkit.bench([str(folder)], **quick).rows[0].score == report.rows[0].score
    optkit.finetune(str(folder), data=data, out=tmp_path / "tuned", epochs=1)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def change(folder, **values):
    file = folder / adapter.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


BAD = {
    "another kind": ({"peft_type": "IA3"}, "received 'IA3'"),
    "an activated one": ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    "repeated layers": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "weights taken from the base": ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    "a wrong rank": ({"r": 3}, "does not fit its base"),
    "unknown modules": ({"target_modules": ["q_proj"]}, "does not fit its base"),
    "modules without weights": ({"target_modules": ["query", "key", "value"]}, r"lacks 4 weights"),
    "weights without modules": ({"target_modules": ["query"]}, r"has no place for 4 weights"),
    "a base that is not here": ({"base_model_name_or_path": "nobody/nothing"}, "'nobody/nothing'"),
    "no base": ({"base_model_name_or_path": None}, "neither a folder nor in the hub's cache"),
    "another task": ({"task_type": "TOKEN_CLS"}, "does not fit|would be random"),
    "a class that is none": ({"auto_mapping": {"base_model_class": "logging"}}, "model class"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_merged_is_refused_in_words(name, checkpoint, tmp_path, cache):
    values, message = BAD[name]
    folder, _ = trained(checkpoint, tmp_path / "adapter")
    change(folder, **values)
    with pytest.raises(CheckpointError, match=message) as refused:
        fetch(folder)
    assert refused.value.hint
    assert not cache.exists() or not [path for path in cache.iterdir() if path.is_dir()]


def test_pickled_or_broken_weights_are_refused(checkpoint, tmp_path):
    folder, _ = trained(checkpoint, tmp_path / "adapter")
    whole = (folder / adapter.WEIGHTS).read_bytes()
    (folder / adapter.WEIGHTS).write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        fetch(folder)
    (folder / adapter.WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="received pickled weights"):
        fetch(folder)
    with pytest.raises(CheckpointError, match="signed"):
        fetch(folder, verify_key=tmp_path / "key.pem")


def test_another_base_is_another_checkpoint(checkpoint, tmp_path, cache):
    base = shutil.copytree(checkpoint, tmp_path / "base")
    folder, _ = trained(base, tmp_path / "adapter")
    first = fetch(folder).path
    assert fetch(folder).path == first
    config = json.loads((base / "config.json").read_text()) | {"layer_norm_eps": 1e-3}
    (base / "config.json").write_text(json.dumps(config))
    assert fetch(folder).path != first
