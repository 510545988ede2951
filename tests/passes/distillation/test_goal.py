"""The loss of a whole batch: nothing to learn for a student that answers as its teacher does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from optkit.models.checkpoint import model_inputs
from optkit.passes.distillation.goal import Goal
from optkit.passes.distillation.teacher_cache import taught


@pytest.mark.parametrize("auto", ["AutoModelForQuestionAnswering", "AutoModelForTokenClassification"])
def test_padding_is_left_out_of_answers_per_token(auto, checkpoint, context, tmp_path):
    import transformers

    config = transformers.AutoConfig.from_pretrained(str(checkpoint))
    model = getattr(transformers, auto).from_config(config).eval()
    goal = Goal(copy.deepcopy(model), model, hidden=0.0)
    encoded, names = context.encoded("train", 12), model_inputs(model)
    lessons = taught(goal.teacher_view, encoded, names, tmp_path / "s")
    batch = encoded.batch(np.arange(12))
    assert not batch["attention_mask"].all(), "texts of different lengths"
    feeds = {n: torch.from_numpy(batch[n]) for n in names}
    with torch.inference_mode():
        found, _ = goal.loss(goal.student, feeds, vars(lessons(range(12), feeds)), None)
    assert float(found) < 1e-8


def test_an_encoder_with_a_decoder_is_compared_by_its_answers_alone():
    """BART and T5 give hidden states of two networks, and none by the name that others use."""
    import transformers

    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 20}
    config = transformers.BartConfig(**sizes, **heads, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    teacher = transformers.BartForSequenceClassification(config).eval()
    goal = Goal(copy.deepcopy(teacher), teacher)
    assert goal.describe()["hidden_states"] is False
    feeds = {"input_ids": torch.tensor([[2, 5, 6, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    with torch.inference_mode():
        found, _ = goal.loss(goal.student, feeds, vars(goal.teacher_view(feeds)), None)
    assert float(found) < 1e-8


def test_a_model_of_stages_is_compared_by_its_answers_alone():
    import transformers

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    teacher = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)).eval()
    goal = Goal(copy.deepcopy(teacher), teacher)
    assert goal.describe()["hidden_states"] is False
    feeds = {"pixel_values": torch.zeros(2, 3, 32, 32)}
    with torch.inference_mode():
        found, _ = goal.loss(goal.student, feeds, vars(goal.teacher_view(feeds)), None)
    assert float(found) < 1e-8
