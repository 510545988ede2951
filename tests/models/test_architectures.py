"""What a folder is taken for, by its config.json alone."""

from __future__ import annotations

import contextlib
import json

import pytest
import transformers

from optkit.errors import CheckpointError
from optkit.models.architectures import infer_task, refuse_no_graph, task_of
from optkit.models.checkpoint import fetch, load_model
from optkit.models.task import TASKS
from tests.models.build import build
from tests.models.families import FAMILIES, TEXT, VECTOR

#: Tasks of folders that say so themselves, of a number of labels, or of a user who names them: the
#: architecture is another task's.
DECLARED = (
    *("embeddings", "multi-vector-embeddings", "sparse-embeddings", "rerank", "zero-shot-classification"),
    "layout-token-classification",
)
#: Architectures that transformers lists with several auto classes.
OF_ANOTHER_TASK = [
    ("BartForConditionalGeneration", "text2text"),
    ("MBartForConditionalGeneration", "text2text"),
    ("XLMWithLMHeadModel", "fill-mask"),
    ("FlaubertWithLMHeadModel", "fill-mask"),
]
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("FlavaModel", {"text_config": {}, "image_config": {}}, "several parts.*text_config, image_config"),
        ("ClapModel", {"text_config": {}, "audio_config": {}}, "several parts"),
        ("Gemma3Model", {"text_config": {"vocab_size": 9}, "vision_config": {}}, "several parts"),
        ("MarianModel", {"is_encoder_decoder": True, "vocab_size": 9}, "encoder with a decoder"),
        ("BartModel", {"is_encoder_decoder": True, "vocab_size": 9}, "encoder with a decoder"),
        ("WhisperModel", {"is_encoder_decoder": True, "num_mel_bins": 80}, "encoder with a decoder"),
        ("EncoderDecoderModel", {"encoder": {}, "decoder": {}}, "encoder with a decoder"),
        ("VisionEncoderDecoderModel", {"encoder": {}, "decoder": {}}, "encoder with a decoder"),
        ("ViTModel", {"image_size": 224}, "reads images"),
        ("ResNetModel", {"num_channels": 3}, "reads images"),
        ("Wav2Vec2Model", {"vocab_size": 32, "conv_dim": [9]}, "reads sound"),
        ("InformerModel", {"prediction_length": 4}, "reads time series"),
        ("GPT2DoubleHeadsModel", {"vocab_size": 9}, "heads for training"),
    ],
)
def test_what_is_no_encoder_of_texts_is_refused_in_one_sentence(architecture, config, words):
    with pytest.raises(CheckpointError, match=f"{architecture} is .*{words}.*no task here fits") as refused:
        task_of({"architectures": [architecture], **config})
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [task.name for task in TASKS.values() if task.name not in DECLARED])
def test_every_architecture_of_an_auto_class_is_of_its_task(name):
    pairs = getattr(transformers, TASKS[name].auto_class)._model_mapping._model_mapping.items()
    wrong = []
    for kind, classes in pairs:
        with contextlib.suppress(CheckpointError):  # refused in words
            for architecture in [classes] if isinstance(classes, str) else classes:
                task = task_of({"architectures": [architecture], "model_type": kind})
                if task not in (name, None):
                    wrong.append((architecture, task))
    assert [pair for pair in wrong if pair not in OF_ANOTHER_TASK] == []


@pytest.mark.parametrize(
    ("architecture", "config", "task"),
    [
        ("BertModel", {"vocab_size": 9}, "embeddings"),
        ("MptModel", {"attn_config": {}}, "embeddings"),
        ("T5EncoderModel", {"model_type": "t5", "is_encoder_decoder": True}, "embeddings"),
        ("MT5Model", {"model_type": "mt5", "is_encoder_decoder": True}, "embeddings"),
        ("CLIPTextModel", {"model_type": "clip_text_model"}, "embeddings"),
        ("CLIPModel", {"model_type": "clip", "text_config": {}}, "zero-shot-image-classification"),
        ("SiglipModel", {"model_type": "siglip"}, "zero-shot-image-classification"),
        ("GPT2LMHeadModel", {}, "causal-lm"),
        ("BartForSequenceClassification", {"is_encoder_decoder": True}, "text-classification"),
        ("SiglipForImageClassification", {"vision_config": {}, "text_config": {}}, "image-classification"),
        ("BertForPreTraining", {}, None),
        ("XLMWithLMHeadModel", {"model_type": "xlm"}, "fill-mask"),
        ("T5ForConditionalGeneration", {"model_type": "t5", "is_encoder_decoder": True}, "text2text"),
    ],
)
def test_the_task_by_the_architecture(architecture, config, task):
    assert task_of({"architectures": [architecture], **config}) == task


def test_a_sentence_transformers_folder_is_taken_for_its_vectors_whatever_it_was_saved_as():
    assert task_of({"architectures": ["BertForMaskedLM"]}, names_a_pooling=True) == "embeddings"
    t5 = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}
    assert task_of(t5, names_a_pooling=True) == "embeddings"
    with pytest.raises(CheckpointError, match="several parts"):
        task_of(
            {"architectures": ["CLIPModel"], "text_config": {}, "vision_config": {}}, names_a_pooling=True
        )


@pytest.mark.parametrize("name", ["T5", "mT5", "UMT5"])
@pytest.mark.parametrize("saved", ["encoder", "whole"])
def test_of_a_t5_the_encoder_is_loaded(name, saved, tmp_path):
    import torch
    import transformers

    build(BY_NAME[name], VECTOR, tmp_path)
    encoder = transformers.AutoModelForTextEncoding.from_pretrained(str(tmp_path)).eval()
    if saved == "encoder":  # as sentence-t5 is
        for file in tmp_path.glob("*.safetensors"):
            file.unlink()
        encoder.save_pretrained(str(tmp_path))
    artifact = fetch(tmp_path)
    assert infer_task(artifact) == "embeddings"
    feeds = {"input_ids": torch.tensor([[7, 8, 9]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    with torch.inference_mode():
        ours = load_model(artifact)(**feeds)["sentence_embedding"]
        right = encoder(**feeds)[0].mean(dim=1)
    assert (ours - right).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "words"), [("BART", "encoder with a decoder"), ("CLIP", "several parts")])
def test_a_named_task_does_not_open_what_does_not_fit(name, words, tmp_path):
    build(BY_NAME[name], BY_NAME[name].tasks[0], tmp_path)
    with pytest.raises(CheckpointError, match=words):
        load_model(fetch(tmp_path), VECTOR)


def test_a_model_that_reads_something_else_is_refused_by_what_it_reads(tmp_path):
    build(BY_NAME["ViT"], BY_NAME["ViT"].tasks[0], tmp_path)
    with pytest.raises(CheckpointError, match=r"transformers cannot load|does not read input_ids"):
        load_model(fetch(tmp_path), TEXT)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {}},
        {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]},
    ],
)
def test_a_folder_of_timm_is_refused_by_name(config, tmp_path):
    build(BY_NAME["BERT"], TEXT, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="one of timm"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    ("config", "able"),
    [
        ({"model_type": "bert"}, True),
        ({"model_type": "big_bird"}, False),
        ({"model_type": "big_bird", "attention_type": "original_full"}, True),
        ({"model_type": "data2vec-vision"}, True),
        ({"model_type": "data2vec-vision", "use_relative_position_bias": True}, False),
        ({"model_type": "data2vec-vision", "use_shared_relative_position_bias": True}, False),
        ({"model_type": "mamba"}, False),
    ],
)
def test_what_no_graph_answers_for_is_refused_before_any_work(config, able):
    with contextlib.nullcontext() if able else pytest.raises(CheckpointError, match="cannot become an ONNX"):
        refuse_no_graph(config)
