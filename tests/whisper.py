"""Small Whispers with random weights that hear windows of a second, and a tokenizer of bytes for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

#: The tokens behind the 256 bytes, in Whisper's order; those of time follow.
SPECIAL = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
]
END, START, ENGLISH, GERMAN, TRANSLATE, TRANSCRIBE = range(256, 262)
NO_TIMES = 265
#: Places of the encoder in a window, 20 ms each, and so tokens of time but for one.
PLACES = 50


def checkpoint(folder: Path, seed: int = 2, longest: int = 24, **generation: object) -> Path:
    """A model of English and German whose texts depend on what it hears and end now and then."""
    import torch
    import transformers

    torch.manual_seed(seed)
    tokens = {"pad_token_id": END, "eos_token_id": END, "bos_token_id": END, "decoder_start_token_id": START}
    config = transformers.WhisperConfig(
        vocab_size=256 + len(SPECIAL) + PLACES + 1,
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_mel_bins": 16},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_source_positions": PLACES},
        **{"max_target_positions": 40, "suppress_tokens": None, "begin_suppress_tokens": None, **tokens},
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "layer_norm" not in name:
            weight.data = torch.randn_like(weight) * (0.35 if "embed_tokens" not in name else 0.7)
    model.tie_weights()
    embeddings = model.get_input_embeddings().weight.data  # of an end now and then, and of pairs of times
    embeddings[END] *= 1.8
    embeddings[NO_TIMES + 1 :] *= 1.3
    stated = {
        **{"is_multilingual": True, "lang_to_id": {"<|en|>": ENGLISH, "<|de|>": GERMAN}},
        **{"task_to_id": {"translate": TRANSLATE, "transcribe": TRANSCRIBE}},
        **{"no_timestamps_token_id": NO_TIMES, "max_initial_timestamp_index": 20},
        **{"suppress_tokens": [7, 8, *range(START, NO_TIMES)], "begin_suppress_tokens": [220, END]},
    }
    settings = {**tokens, **stated, "max_length": longest, **generation}
    model.generation_config = transformers.GenerationConfig(
        **{name: value for name, value in settings.items() if value is not None}
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder))
    transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(str(folder))
    _tokenizer(folder)
    return folder


def data(folder: Path, train: int = 4, validation: int = 6, longest: float | None = None) -> Path:
    """Made sounds of .3 to 1.5 seconds, some longer than a window, unless all are `longest`, with texts."""
    from optkit.data.audio import clip, wav

    for split, count in (("train", train), ("validation", validation)):
        (folder / split).mkdir(parents=True)
        lines = ["file_name,transcription"]
        for i in range(count):
            (folder / split / f"{i}.wav").write_bytes(wav(clip(i, 16000, longest), 16000))
            lines.append(f"{i}.wav,Well {'so ' * (i % 4)}it is")
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def generated(model: object, features: np.ndarray, **options: object) -> tuple[list[int], list[list[float]]]:
    """The tokens that `generate` writes for `features` (bands, frames), and (start, end) of its segments."""
    import torch

    said = model.generate(torch.from_numpy(features[None]), return_segments=True, **options)["segments"][0]  # type: ignore[attr-defined]
    tokens = [token for segment in said for token in segment["tokens"].tolist()]
    return tokens, [[float(segment["start"]), float(segment["end"])] for segment in said]


def _tokenizer(folder: Path) -> None:
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    times = [f"<|{i * 0.02:.2f}|>" for i in range(PLACES + 1)]
    tokenizer.add_tokens([AddedToken(time, normalized=False) for time in times])
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    settings = {"tokenizer_class": "WhisperTokenizer", "model_max_length": 40, **ends}
    settings |= {"additional_special_tokens": SPECIAL[1:]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
