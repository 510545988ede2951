from __future__ import annotations

import pytest
import torch
import transformers

from optkit.models.limits import token_limit

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
SEQUENCES = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "encoder_ffn_dim": 32} | {
    name: 2 for name in ("encoder_attention_heads", "decoder_attention_heads")
}
FAMILIES = {
    "albert": {"embedding_size": 32},
    "bart": SEQUENCES | {"decoder_ffn_dim": 32},
    "bert": {},
    "camembert": {},
    "data2vec-text": {},
    "deberta-v2": {},
    "distilbert": {"dim": 32, "hidden_dim": 32, "n_heads": 2, "n_layers": 1},
    "esm": {"pad_token_id": 1},
    "gpt2": {},
    "ibert": {},
    "luke": {},
    "mpnet": {},
    "mpt": {"d_model": 32, "n_heads": 2, "n_layers": 1, "max_seq_len": 20},
    "nystromformer": {},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 32},
    "roberta": {},
    "roberta-prelayernorm": {},
    "xlm-roberta": {},
    "xlm-roberta-xl": {},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_takes_exactly_as_many_tokens_as_the_rule_says(kind):
    config = transformers.AutoConfig.for_model(kind, **SIZES, **FAMILIES[kind])
    model = transformers.AutoModel.from_config(config).eval()
    limit = token_limit(config.to_dict())

    def answer(tokens: int) -> None:
        with torch.inference_mode():
            model(input_ids=torch.full((1, tokens), 5), attention_mask=torch.ones(1, tokens).long())

    answer(limit)
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        answer(limit + 1)


@pytest.mark.parametrize("kind", ["t5", "umt5", "bloom"])
def test_models_that_know_distances_only_have_no_limit(kind):
    assert token_limit({"model_type": kind, "n_positions": 512}) is None


def test_the_limit_of_a_text_model_inside_of_another_is_found():
    inner = {"model_type": "bert", "max_position_embeddings": 77}
    assert token_limit({"model_type": "clip", "text_config": inner}) == 77
    assert token_limit({"model_type": "other"}) is None
