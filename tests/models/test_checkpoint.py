from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from optkit.core.artifact import seal
from optkit.errors import CheckpointError, RecipeError
from optkit.models.checkpoint import fetch, load_model, model_inputs


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_checkpoint_loads_in_fp32_and_evaluation_mode(checkpoint):
    model = load_model(fetch(checkpoint))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_an_unknown_task_is_refused(checkpoint):
    with pytest.raises(RecipeError, match="Unknown task 'embedding'"):
        load_model(fetch(checkpoint), "embedding")


def test_fp16_on_disk_becomes_fp32(copy):
    weights = load_file(copy / "model.safetensors")
    save_file({k: v.half() for k, v in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert {p.dtype for p in load_model(fetch(copy)).parameters()} == {torch.float32}


def test_truncated_weights(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        fetch(copy)


def test_corrupt_weights(copy):
    (copy / "model.safetensors").write_bytes(b"\xff" * 1000)
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        fetch(copy)


def test_a_part_of_the_weights_that_is_missing(copy):
    weights = sorted(load_file(copy / "model.safetensors"))
    index = {
        "weight_map": {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    }
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="1 of 2 files of weights are missing.*00002-of-00002"):
        fetch(copy)
    (copy / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"Expected model.safetensors or .*index.json"):
        fetch(copy)


def test_nan_in_a_weight_is_named(copy):
    weights = load_file(copy / "model.safetensors")
    weights["classifier.weight"][0, 0] = float("nan")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier\.weight.*NaN"):
        load_model(fetch(copy))


def test_a_missing_weight_is_never_made_up(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"classifier\.weight"):
        load_model(fetch(copy))


def test_a_missing_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json") as raised:
        fetch(copy)
    assert "save_pretrained" in raised.value.hint


def test_an_unknown_architecture(copy):
    edit_config(copy, model_type="marvel", architectures=["MarvelForSequenceClassification"])
    with pytest.raises(CheckpointError, match="marvel"):
        load_model(fetch(copy))


def test_code_of_its_own_needs_the_flag(copy):
    edit_config(copy, auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(CheckpointError, match="code of its own") as raised:
        fetch(copy)
    assert "--trust-remote-code" in raised.value.hint


def test_a_hub_name_without_network_says_so():
    with pytest.raises(CheckpointError, match="could not be had from the hub"):
        fetch("nobody/nothing")


def test_roberta_has_one_token_type_so_takes_none(make_checkpoint):
    assert model_inputs(load_model(make_checkpoint("roberta"))) == ["input_ids", "attention_mask"]
    assert model_inputs(load_model(make_checkpoint("bert")))[-1] == "token_type_ids"


def test_a_checkpoint_of_ours_that_was_changed_by_hand_is_refused(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "x")
    seal(folder, fetch(checkpoint), {"pass": "finetune", "parameters": {}, "notes": {}, "seconds": 0.0})
    fetch(folder)
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"negative"', '"bad"'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="config.json.*sha256 differs") as refused:
        fetch(folder)
    assert "delete optkit.json" in refused.value.hint
    (folder / "optkit.json").unlink()
    fetch(folder)
