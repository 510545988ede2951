"""The architectures that the sweep builds: one line each, the smallest configuration that still has all that
makes the architecture what it is (two layers, two heads, windows that a dozen tokens cross)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT, TOKENS, QA, VECTOR, IMAGE, LM, DETECT, SEGMENT = (
    "text-classification",
    "token-classification",
    "question-answering",
    "embeddings",
    "image-classification",
    "causal-lm",
    "object-detection",
    "semantic-segmentation",
)
#: What a model hears, and what it writes down of it.
SOUND, SPEECH = "audio-classification", "automatic-speech-recognition"
RERANK, ZERO, CHOICE = "rerank", "zero-shot-classification", "multiple-choice"
SPARSE, MULTI = "sparse-embeddings", "multi-vector-embeddings"
LAYOUT, TO_TEXT = "layout-token-classification", "text2text"
TOWERS = "zero-shot-image-classification"
ENCODER = (TEXT, TOKENS, QA, VECTOR)
#: An encoder in all tasks of texts.
WIDE = (*ENCODER, RERANK, ZERO, CHOICE, SPARSE, MULTI)
#: A decoder with a head for texts, its hidden states as vectors, and its own language head.
DECODER = (TEXT, VECTOR, LM)
#: One with heads for tokens, and for questions, as well.
RANKING = (RERANK, ZERO, MULTI)
TAGGING, ANSWERING = (TEXT, TOKENS, VECTOR, LM), (TEXT, TOKENS, QA, VECTOR, LM)
#: Tokens of the vocabulary, and the most that a text may have.
VOCABULARY, POSITIONS = 96, 64
#: The window of architectures that look at a few tokens around each.
WINDOW = 8


@dataclass(frozen=True)
class Family:
    """`kind` is transformers' model_type, `config` its configuration, `tokenizer` wordpiece, bpe or unigram.

    `window`: how many tokens back or around a layer sees, where that is fewer than all. `quick` families are
    tried in every test run, in their first task. `left`: the side on which the tokenizer pads.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "wordpiece"
    window: int = WINDOW
    quick: bool = False
    left: bool = False


_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
_OFFSET = {
    **_SIZES,
    "max_position_embeddings": POSITIONS + 2,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GROUPED = {**_SIZES, "num_attention_heads": 4, "num_key_value_heads": 2}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": POSITIONS,
}
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": POSITIONS,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_XLM = {
    "vocab_size": VOCABULARY,
    "emb_dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "max_position_embeddings": POSITIONS,
}
_IMAGE = {
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
_STAGES = {"image_size": 32, "num_channels": 3}
_SWIN = {
    **_STAGES,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}


_HEARD = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 8],
    "conv_stride": [5, 8],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
}


def _sizes(**changes: Any) -> dict[str, Any]:
    return {**_SIZES, **changes}


def _slid(**changes: Any) -> dict[str, Any]:
    return {**_GROUPED, "head_dim": 8, "sliding_window": WINDOW, **changes}


FAMILIES = (
    Family("BERT", "bert", WIDE, _SIZES, quick=True),
    Family(
        "DistilBERT",
        "distilbert",
        WIDE,
        {
            "vocab_size": VOCABULARY,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": POSITIONS,
        },
        quick=True,
    ),
    Family("RoBERTa", "roberta", WIDE, _OFFSET, "bpe", quick=True),
    Family("XLM-R", "xlm-roberta", WIDE, _OFFSET, "unigram", quick=True),
    Family("XLM-RoBERTa-XL", "xlm-roberta-xl", ENCODER, _OFFSET, "unigram"),
    Family("CamemBERT", "camembert", ENCODER, _OFFSET, "unigram"),
    Family("ALBERT", "albert", WIDE, _sizes(embedding_size=16), "unigram", quick=True),
    Family("ELECTRA", "electra", WIDE, _sizes(embedding_size=16), quick=True),
    Family("MPNet", "mpnet", WIDE, _OFFSET, quick=True),
    Family(
        "MobileBERT",
        "mobilebert",
        ENCODER,
        _sizes(embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16, num_feedforward_networks=2),
    ),
    Family(
        "SqueezeBERT",
        "squeezebert",
        (TEXT, TOKENS, QA, VECTOR),
        _sizes(
            embedding_size=32,
            q_groups=2,
            k_groups=2,
            v_groups=2,
            post_attention_groups=1,
            intermediate_groups=2,
            output_groups=2,
        ),
    ),
    Family(
        "DeBERTa", "deberta", ENCODER, _sizes(relative_attention=True, pos_att_type=["c2p", "p2c"]), "bpe"
    ),
    Family(
        "DeBERTa-v2/v3",
        "deberta-v2",
        WIDE,
        _sizes(
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
            type_vocab_size=0,
        ),
        "unigram",
        quick=True,
    ),
    Family(
        "ModernBERT",
        "modernbert",
        WIDE,
        _sizes(local_attention=WINDOW, global_attn_every_n_layers=2, num_hidden_layers=3),
        "bpe",
        quick=True,
    ),
    Family(
        "ModernBERT decoder",
        "modernbert-decoder",
        DECODER,
        _sizes(local_attention=WINDOW, global_attn_every_n_layers=2, num_hidden_layers=3),
        "bpe",
    ),
    Family("EuroBERT", "eurobert", (TEXT, TOKENS, VECTOR, RERANK, MULTI), _GROUPED, "bpe"),
    Family("NomicBERT", "nomic_bert", (TEXT, TOKENS, VECTOR, RERANK, MULTI), {**_SIZES, "head_dim": 16}),
    Family("GTE", "gte", (TEXT, TOKENS, VECTOR, RERANK, MULTI), _sizes(type_vocab_size=1), "unigram"),
    Family("Jina embeddings v3", "jina_embeddings_v3", ENCODER, _sizes(type_vocab_size=1), "unigram"),
    Family("UltraBERT", "ultrabert", ENCODER, _sizes(sliding_window=WINDOW, prediction_head_size=32), "bpe"),
    Family("RoBERTa PreLayerNorm", "roberta-prelayernorm", ENCODER, _OFFSET, "bpe"),
    Family("RoFormer", "roformer", ENCODER, _sizes(embedding_size=32)),
    Family(
        "ConvBERT",
        "convbert",
        ENCODER,
        _sizes(embedding_size=32, head_ratio=2, num_groups=1, num_attention_heads=4),
    ),
    Family("FNet", "fnet", ENCODER, _sizes(tpu_short_seq_length=POSITIONS), "unigram"),
    Family(
        "Funnel",
        "funnel",
        (*ENCODER, CHOICE),
        {
            "vocab_size": VOCABULARY,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "d_model": 32,
            "n_head": 2,
            "d_head": 16,
            "d_inner": 64,
        },
    ),
    Family(
        "Longformer",
        "longformer",
        (*ENCODER, CHOICE),
        {**_OFFSET, "attention_window": [WINDOW, WINDOW]},
        "bpe",
    ),
    Family(
        "BigBird",
        "big_bird",
        ENCODER,
        _sizes(attention_type="block_sparse", block_size=4, num_random_blocks=1, max_position_embeddings=128),
        "unigram",
    ),
    Family(
        "XLNet",
        "xlnet",
        (*ENCODER, CHOICE),
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
        "unigram",
        left=True,
    ),
    Family(
        "Nystromformer",
        "nystromformer",
        ENCODER,
        _sizes(num_landmarks=4, segment_means_seq_len=64, conv_kernel_size=3),
    ),
    Family("YOSO", "yoso", ENCODER, _sizes(use_expectation=True)),
    Family("MRA", "mra", ENCODER, _SIZES),
    Family("MegatronBERT", "megatron-bert", ENCODER, _SIZES),
    Family("I-BERT", "ibert", ENCODER, _OFFSET, "bpe"),
    Family("ERNIE", "ernie", ENCODER, _SIZES),
    Family("LayoutLM", "layoutlm", (TEXT, VECTOR, LAYOUT), _SIZES),
    Family("LiLT", "lilt", (LAYOUT,), {**_OFFSET, "hidden_size": 48, "channel_shrink_ratio": 2}),
    Family("BROS", "bros", (LAYOUT,), _sizes(hidden_size=64)),
    Family("Data2Vec text", "data2vec-text", ENCODER, _OFFSET, "bpe"),
    Family(
        "CANINE",
        "canine",
        (TEXT,),
        {
            **{k: v for k, v in _SIZES.items() if k != "vocab_size"},
            "num_hash_buckets": 64,
            "local_transformer_stride": 8,
            "max_position_embeddings": 512,
        },
    ),
    Family(
        "ESM",
        "esm",
        (TEXT, TOKENS, VECTOR),
        {**_OFFSET, "mask_token_id": 4, "position_embedding_type": "rotary"},
    ),
    Family(
        "RemBERT", "rembert", ENCODER, _sizes(input_embedding_size=16, output_embedding_size=16), "unigram"
    ),
    Family("XLM", "xlm", ENCODER, _XLM, "bpe"),
    Family("FlauBERT", "flaubert", ENCODER, _XLM, "bpe"),
    Family("BART", "bart", (TEXT, QA, RERANK, ZERO, TO_TEXT), _BART, "bpe"),
    Family("mBART", "mbart", (TEXT, QA, TO_TEXT), _BART, "unigram"),
    # tests/seq2seq.py builds those that write texts, each with a generation config of its kind.
    Family("Pegasus", "pegasus", (TO_TEXT,)),
    Family("Marian", "marian", (TO_TEXT,)),
    Family("M2M100", "m2m_100", (TO_TEXT,)),
    Family("T5", "t5", (TEXT, TOKENS, QA, VECTOR, TO_TEXT), _T5, "unigram"),
    Family("mT5", "mt5", (TEXT, TOKENS, QA, VECTOR, TO_TEXT), _T5, "unigram"),
    Family("UMT5", "umt5", (TEXT, TOKENS, QA, VECTOR), _T5, "unigram"),
    Family("GPT-2", "gpt2", ANSWERING, _GPT, "bpe", quick=True),
    Family(
        "GPT-Neo",
        "gpt_neo",
        ANSWERING,
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
        "bpe",
    ),
    Family("GPT-NeoX", "gpt_neox", ANSWERING, _SIZES, "bpe"),
    Family("GPT-J", "gptj", DECODER, {**_GPT, "rotary_dim": 8}, "bpe"),
    Family(
        "OPT",
        "opt",
        DECODER,
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": POSITIONS,
        },
        "bpe",
    ),
    Family(
        "BLOOM",
        "bloom",
        ANSWERING,
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2},
        "bpe",
    ),
    Family(
        "Falcon",
        "falcon",
        ANSWERING,
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": POSITIONS,
        },
        "bpe",
    ),
    Family("Llama", "llama", (*ANSWERING, *RANKING), _GROUPED, "bpe", quick=True),
    Family("Mistral", "mistral", (*ANSWERING, *RANKING), _slid(), "bpe"),
    Family("Qwen2", "qwen2", (*ANSWERING, *RANKING), _GROUPED, "bpe", quick=True),
    Family(
        "Qwen2 with a window",
        "qwen2",
        ANSWERING,
        {**_GROUPED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        "bpe",
    ),
    Family("Qwen3", "qwen3", (*ANSWERING, *RANKING), {**_GROUPED, "head_dim": 8}, "bpe", quick=True),
    Family("Gemma", "gemma", TAGGING, {**_GROUPED, "head_dim": 8}, "bpe"),
    Family("Gemma 2", "gemma2", TAGGING, _slid(query_pre_attn_scalar=8), "bpe"),
    Family(
        "Gemma 3",
        "gemma3_text",
        (*DECODER, *RANKING),
        _slid(query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]),
        "bpe",
    ),
    Family(
        "EmbeddingGemma",
        "gemma3_text",
        (VECTOR,),
        _slid(
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "full_attention"],
            use_bidirectional_attention=True,
        ),
        "bpe",
    ),
    Family(
        "EmbeddingGemma 2",
        "embedding_gemma2_text",
        (VECTOR,),
        _slid(
            layer_types=["sliding_attention", "full_attention"],
            hidden_size_per_layer_input=16,
            embedding_dim=24,
        ),
        "bpe",
    ),
    Family("Phi", "phi", TAGGING, _sizes(partial_rotary_factor=0.5), "bpe"),
    Family("Phi-3", "phi3", TAGGING, {**_GROUPED, "sliding_window": WINDOW, "pad_token_id": 0}, "bpe"),
    Family("SmolLM3", "smollm3", ANSWERING, {**_GROUPED, "no_rope_layers": [1, 0]}, "bpe"),
    Family("OLMo2", "olmo2", DECODER, _GROUPED, "bpe"),
    Family("Granite", "granite", (VECTOR, LM), _GROUPED, "bpe"),
    Family("StableLM", "stablelm", TAGGING, {**_GROUPED, "partial_rotary_factor": 0.5}, "bpe"),
    Family("Cohere", "cohere", (VECTOR, LM), _GROUPED, "bpe"),
    Family(
        "Cohere 2",
        "cohere2",
        (VECTOR, LM),
        {**_GROUPED, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
        "bpe",
    ),
    Family(
        "MPT",
        "mpt",
        ANSWERING,
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": POSITIONS},
        "bpe",
    ),
    Family("gpt-oss", "gpt_oss", TAGGING, _slid(num_local_experts=4, num_experts_per_tok=2), "bpe"),
    Family("Mixtral", "mixtral", ANSWERING, {**_GROUPED, "num_local_experts": 4}, "bpe"),
    Family(
        "Mamba",
        "mamba",
        (VECTOR, LM),
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        "bpe",
    ),
    Family(
        "Jamba",
        "jamba",
        DECODER,
        {
            **_GROUPED,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "use_mamba_kernels": False,
            "mamba_d_state": 4,
        },
        "bpe",
    ),
    Family("ViT", "vit", (IMAGE,), _IMAGE, quick=True),
    Family("DeiT", "deit", (IMAGE,), _IMAGE, quick=True),
    Family(
        "BEiT", "beit", (IMAGE,), {**_IMAGE, "use_relative_position_bias": True, "use_mean_pooling": True}
    ),
    Family(
        "Swin",
        "swin",
        (IMAGE,),
        _SWIN,
        quick=True,
    ),
    Family(
        "Swin v2",
        "swinv2",
        (IMAGE,),
        _SWIN,
    ),
    Family(
        "ConvNeXT",
        "convnext",
        (IMAGE,),
        {**_STAGES, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
        quick=True,
    ),
    Family(
        "ConvNeXT v2",
        "convnextv2",
        (IMAGE,),
        {**_STAGES, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    ),
    Family("SigLIP", "siglip", (IMAGE,), {"vision_config": _IMAGE, "text_config": _SIZES}),
    Family("CLIP", "clip", (IMAGE,), {"vision_config": _IMAGE, "text_config": _SIZES}),
    Family("DINOv2", "dinov2", (IMAGE,), _IMAGE),
    Family("DINOv2 with registers", "dinov2_with_registers", (IMAGE,), _IMAGE),
    Family(
        "MobileViT",
        "mobilevit",
        (IMAGE,),
        {
            **_STAGES,
            "image_size": 64,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 16],
            "num_attention_heads": 2,
        },
    ),
    Family("MobileNetV1", "mobilenet_v1", (IMAGE,), {**_STAGES, "depth_multiplier": 0.25}),
    Family("MobileNetV2", "mobilenet_v2", (IMAGE,), {**_STAGES, "depth_multiplier": 0.25}),
    Family(
        "EfficientNet",
        "efficientnet",
        (IMAGE,),
        {**_STAGES, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
    ),
    Family(
        "ResNet",
        "resnet",
        (IMAGE,),
        {
            "num_channels": 3,
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "layer_type": "basic",
        },
        quick=True,
    ),
    Family(
        "RegNet",
        "regnet",
        (IMAGE,),
        {
            "num_channels": 3,
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 16, 16],
            "depths": [1, 1, 1, 1],
            "groups_width": 8,
        },
    ),
    Family(
        "LeViT",
        "levit",
        (IMAGE,),
        {
            **_STAGES,
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 3, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "drop_path_rate": 0,
        },
    ),
    Family(
        "PVT",
        "pvt",
        (IMAGE,),
        {
            **_STAGES,
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "mlp_ratios": [2, 2, 2, 2],
        },
    ),
    Family(
        "PoolFormer",
        "poolformer",
        (IMAGE,),
        {"num_channels": 3, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    ),
    Family(
        "CvT",
        "cvt",
        (IMAGE,),
        {
            "num_channels": 3,
            "embed_dim": [8, 16, 32],
            "num_heads": [1, 2, 4],
            "depth": [1, 2, 3],
        },
    ),
    Family("Data2Vec vision", "data2vec-vision", (IMAGE,), {**_IMAGE, "use_relative_position_bias": True}),
    Family(
        "FocalNet",
        "focalnet",
        (IMAGE,),
        {**_STAGES, "embed_dim": 16, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3]},
    ),
    Family(
        "BiT",
        "bit",
        (IMAGE,),
        {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 4},
    ),
    Family(
        "ImageGPT",
        "imagegpt",
        (IMAGE,),
        {"vocab_size": 17, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2},
    ),
    Family("ViT MSN", "vit_msn", (IMAGE,), _IMAGE),
    Family(
        "SegFormer",
        "segformer",
        (IMAGE,),
        {
            **_STAGES,
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
    ),
    Family("I-JEPA", "ijepa", (IMAGE,), _IMAGE),
    Family("MetaCLIP 2", "metaclip_2", (IMAGE,), {"vision_config": _IMAGE, "text_config": _SIZES}),
    Family(
        "SigLIP 2",
        "siglip2",
        (IMAGE,),
        {"vision_config": {**_IMAGE, "num_patches": 16}, "text_config": _SIZES},
    ),
    Family("MobileViT v2", "mobilevitv2", (IMAGE,), {"image_size": 64, "width_multiplier": 0.25}),
    Family(
        "Hiera",
        "hiera",
        (IMAGE,),
        {
            **{"image_size": [64, 64], "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
            "num_channels": 3,
        },
    ),
    Family(
        "PVT v2",
        "pvt_v2",
        (IMAGE,),
        {
            **{"image_size": 64, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
            "num_attention_heads": [1, 1, 2, 2],
        },
    ),
    Family(
        "SwiftFormer",
        "swiftformer",
        (IMAGE,),
        {"image_size": 64, "embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_channels": 3},
    ),
    Family(
        "HGNet v2",
        "hgnet_v2",
        (IMAGE,),
        {
            **{"stem_channels": [3, 8, 8], "stage_in_channels": [8, 16, 16, 32], "embedding_size": 8},
            **{"stage_mid_channels": [8] * 4, "stage_out_channels": [16, 16, 32, 32], "depths": [1] * 4},
            **{
                "stage_num_blocks": [1] * 4,
                "stage_numb_of_layers": [1] * 4,
                "hidden_sizes": [16, 16, 32, 32],
            },
        },
    ),
    Family(
        "Donut Swin",
        "donut-swin",
        (IMAGE,),
        _SWIN,
    ),
    Family("PP-LCNet", "pp_lcnet", (IMAGE,), {"scale": 0.25, "class_expand": 32}),
    Family(
        "TextNet",
        "textnet",
        (IMAGE,),
        {"image_size": [64, 64], "stem_out_channels": 8, "hidden_sizes": [8, 8, 16, 16, 16]},
    ),
    # tests/tasks/towers.py builds these.
    Family("CLIP, both towers", "clip", (TOWERS,)),
    Family("MetaCLIP 2, both towers", "metaclip_2", (TOWERS,)),
    Family("SigLIP, both towers", "siglip", (TOWERS,)),
    Family("Chinese CLIP", "chinese_clip", (TOWERS,)),
    Family("AltCLIP", "altclip", (TOWERS,)),
    Family("ALIGN", "align", (TOWERS,)),
    Family("SigLIP 2, both towers", "siglip2", (TOWERS,)),
    # tests/tasks/pictures.py builds these, each with the image processor of its kind.
    Family("DETR", "detr", (DETECT,)),
    Family("Conditional DETR", "conditional_detr", (DETECT,)),
    Family("Deformable DETR", "deformable_detr", (DETECT,)),
    Family("YOLOS", "yolos", (DETECT,)),
    Family("RT-DETR", "rt_detr", (DETECT,)),
    Family("RT-DETR v2", "rt_detr_v2", (DETECT,)),
    Family("D-FINE", "d_fine", (DETECT,)),
    Family("Table Transformer", "table-transformer", (DETECT,)),
    Family("DAB-DETR", "dab-detr", (DETECT,)),
    Family("SegFormer for segmentation", "segformer", (SEGMENT,)),
    Family("UperNet", "upernet", (SEGMENT,)),
    Family("DPT", "dpt", (SEGMENT,)),
    Family("BEiT for segmentation", "beit", (SEGMENT,)),
    Family("MobileViT for segmentation", "mobilevit", (SEGMENT,)),
    Family("MaskFormer", "maskformer", (SEGMENT,)),
    Family("Mask2Former", "mask2former", (SEGMENT,)),
    Family("MobileViT v2 for segmentation", "mobilevitv2", (SEGMENT,)),
    Family("MobileNetV2 for segmentation", "mobilenet_v2", (SEGMENT,)),
    Family("Data2Vec vision for segmentation", "data2vec-vision", (SEGMENT,)),
    Family("wav2vec 2.0", "wav2vec2", (SOUND, SPEECH), _HEARD, quick=True),
    Family(
        "wav2vec 2.0, layer norm",
        "wav2vec2",
        (SOUND, SPEECH),
        {**_HEARD, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    Family("HuBERT", "hubert", (SOUND, SPEECH), _HEARD),
    Family("WavLM", "wavlm", (SOUND, SPEECH), {**_HEARD, "num_buckets": 16, "max_bucket_distance": 32}),
    Family("SEW", "sew", (SOUND, SPEECH), {**_HEARD, "squeeze_factor": 2}),
    Family(
        "SEW-D",
        "sew-d",
        (SOUND, SPEECH),
        {**_HEARD, "squeeze_factor": 2, "max_position_embeddings": 64, "position_buckets": 16},
    ),
    Family("UniSpeech", "unispeech", (SOUND, SPEECH), _HEARD),
    Family("UniSpeech-SAT", "unispeech-sat", (SOUND, SPEECH), _HEARD),
    Family(
        "Data2Vec audio",
        "data2vec-audio",
        (SOUND, SPEECH),
        {**_HEARD, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2},
    ),
    Family(
        "Wav2Vec2-Conformer",
        "wav2vec2-conformer",
        (SOUND, SPEECH),
        {**_HEARD, "conv_depthwise_kernel_size": 7},
    ),
    Family(
        "Wav2Vec2-BERT",
        "wav2vec2-bert",
        (SOUND, SPEECH),
        {n: v for n, v in _HEARD.items() if "conv" not in n},
    ),
    Family(
        "AST",
        "audio-spectrogram-transformer",
        (SOUND,),
        {
            **_IMAGE,
            "max_length": 32,
            "num_mel_bins": 16,
            "patch_size": 8,
            "frequency_stride": 4,
            "time_stride": 4,
        },
    ),
    Family(
        "Whisper, encoder",
        "whisper",
        (SOUND,),
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 64,
            "num_mel_bins": 16,
            "max_source_positions": 50,
        },
    ),
)
