"""Small random models of every architecture that can be pruned, and inputs for them."""

from __future__ import annotations

from typing import Any

TEXT = ("bert", "roberta", "electra", "distilbert", "deberta-v2", "gpt2", "llama", "mistral", "qwen2")
IMAGE = ("vit", "deit", "dinov2")
ALL = (*TEXT, *IMAGE)
#: Of the layouts that are others' again, or nearly: what is cut is tried, not what is measured.
MORE = ("modernbert", "eurobert", "qwen3", "gemma3_text")


def build(kind: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **settings(kind))
    config.num_labels = 3
    if kind == "deit":  # the Auto class knows two
        config.architectures = ["DeiTForImageClassification"]
    auto = transformers.AutoModelForSequenceClassification
    if kind in IMAGE:
        auto = transformers.AutoModelForImageClassification
    model = auto.from_config(config).eval()
    for parameter in model.parameters():  # biases and norms too: what is cut must not be zero by chance
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


def settings(kind: str) -> dict[str, Any]:
    common = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    text = {**common, "vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0}
    if kind in IMAGE:
        return {**common, "image_size": 16, "patch_size": 8}
    if kind == "distilbert":
        return {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "vocab_size": 40}
    if kind == "gpt2":
        return {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48, "vocab_size": 40, "pad_token_id": 0}
    if kind == "deberta-v2":
        extra = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
        return {**text, **extra}
    if kind == "modernbert":
        return {**text, "local_attention": 4, "global_attn_every_n_layers": 2}
    if kind in ("llama", "mistral", "qwen2", "eurobert", "qwen3", "gemma3_text"):
        if kind in ("qwen3", "gemma3_text"):
            text |= {"head_dim": 4, "sliding_window": 4}
        return {**text, "num_attention_heads": 8, "num_key_value_heads": 4}
    return text


def feeds(kind: str) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    if kind in IMAGE:
        return {"pixel_values": torch.randn(3, 3, 16, 16, generator=generator)}
    ids = torch.randint(3, 40, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, 6:], mask[1, 6:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}
