"""Small checkpoints of tasks other than text classification: random weights, sizes for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import tiny, write_tokenizer

#: Labels of scikit-learn's digits.
DIGITS = tuple("0123456789")
_PACKAGE, _SPARSE = "sentence_transformers.models", "sentence_transformers.sparse_encoder.models"


def embedder(folder: Path, kind: str = "bert", pooling: dict | None = None, normalize: bool = True) -> Path:
    """A headless encoder; with `pooling` (1_Pooling/config.json) it is a sentence-transformers folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **tiny(kind)))
    for p in model.parameters():
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    if pooling is not None:
        kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        paths = ["", "1_Pooling", "2_Normalize"]
        modules = [
            {"idx": i, "name": str(i), "path": paths[i], "type": f"{_PACKAGE}.{k}"}
            for i, k in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "2_Normalize").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(
            json.dumps({"word_embedding_dimension": model.config.hidden_size, **pooling})
        )
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return folder


def masked_lm(folder: Path, kind: str = "bert") -> Path:
    """A masked language model of two layers; its tokenizer knows [MASK]."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "mask_token": "[MASK]"}))
    model = transformers.AutoModelForMaskedLM.from_config(
        transformers.AutoConfig.for_model(kind, **tiny(kind))
    )
    for p in model.parameters():
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def splade(folder: Path, activation: str = "relu", strategy: str = "max") -> Path:
    """A sparse encoder of two layers, as sentence-transformers saves it."""
    write_splade(masked_lm(folder), activation, strategy)
    return folder


def write_splade(folder: Path, activation: str = "relu", strategy: str = "max") -> None:
    """The settings that make a sparse encoder of the masked language model in `folder`."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{_PACKAGE}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": f"{_SPARSE}.SpladePooling"},
    ]
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 16, "transformer_task": "fill-mask"},
        "config_sentence_transformers.json": {"model_type": "SparseEncoder", "similarity_fn_name": "dot"},
        "1_SpladePooling/config.json": {"pooling_strategy": strategy, "activation_function": activation},
    }
    (folder / "1_SpladePooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def multi_vector(folder: Path, kind: str = "bert", mask: dict | None = None, **settings: Any) -> Path:
    """A multi-vector model of two layers and 8 numbers per token, as sentence-transformers saves it.

    `settings` are of its Transformer module, `mask` of its MultiVectorMask.
    """
    embedder(folder, kind)
    write_multi_vector(folder, mask, **settings)
    add_dense(folder, 32, 8, "1_Dense", "token_embeddings")
    return folder


def write_multi_vector(folder: Path, mask: dict | None = None, **settings: Any) -> None:
    """The settings that make a multi-vector model of the encoder in `folder`, but for its Dense."""
    kinds = {
        "": "base.modules.Transformer",
        "2_MultiVectorMask": "multi_vector_encoder.modules.MultiVectorMask",
    }
    kinds["3_Normalize"] = "base.modules.Normalize"
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    prompts = {"query": "the plot ", "document": "the cast "}
    files = {
        "modules.json": modules,
        "tokenizer_config.json": {**tokenizer, "mask_token": "[MASK]", "unk_token": "[UNK]"},
        "sentence_bert_config.json": {"max_seq_length": 16, **settings},
        "config_sentence_transformers.json": {"model_type": "MultiVectorEncoder", "prompts": prompts},
        "2_MultiVectorMask/config.json": mask or {},
        "3_Normalize/config.json": {"module_input_name": "token_embeddings"},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def add_dense(
    folder: Path, inputs: int, outputs: int, path: str = "", on: str = "sentence_embedding"
) -> None:
    """Put a Dense module with tanh behind the others of the sentence-transformers folder `folder`, or at the
    place that `path` begins with."""
    from safetensors.numpy import save_file

    listed = json.loads((folder / "modules.json").read_text())
    path = path or f"{len(listed)}_Dense"
    line = {"idx": len(listed), "name": str(len(listed)), "path": path, "type": f"{_PACKAGE}.Dense"}
    listed.insert(int(path.partition("_")[0]), line)
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / path).mkdir()
    settings: dict = {"in_features": inputs, "out_features": outputs, "bias": True, "module_input_name": on}
    settings["activation_function"] = "torch.nn.modules.activation.Tanh"
    (folder / path / "config.json").write_text(json.dumps(settings))
    random = np.random.default_rng(0)
    weights = {
        "linear.weight": random.normal(size=(outputs, inputs)),
        "linear.bias": random.normal(size=outputs),
    }
    save_file({k: v.astype(np.float32) for k, v in weights.items()}, folder / path / "model.safetensors")


def vit(folder: Path, labels: tuple[str, ...] = DIGITS, side: int = 8, channels: int = 1) -> Path:
    """A ViT of two layers on images of `side` x `side`, with its preprocessor_config.json."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=side,
        patch_size=2,
        num_channels=channels,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    model = transformers.ViTForImageClassification(config)
    for p in model.parameters():
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    write_processor(folder, side, channels)
    return folder


def write_processor(folder: Path, side: int, channels: int, **changes) -> None:
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": side, "width": side},
        "resample": 2,
        "image_mean": [0.5] * channels,
        "image_std": [0.5] * channels,
        **changes,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 8, 8) of bytes and labels (count,) from scikit-learn's digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    picked = np.random.default_rng(seed).permutation(len(found.target))[:count]
    return (found.images[picked] * 15.9).astype(np.uint8), found.target[picked].astype(np.uint8)


def write_idx(file: Path, values: np.ndarray) -> None:
    """idx, gzipped: a magic number, the sizes (big-endian), the bytes."""
    import gzip

    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    file.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def digits_data(folder: Path, train: int = 128, test: int = 60) -> Path:
    """scikit-learn's digits as idx files named as MNIST's are."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits(train + test)
    for prefix, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images[part])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels[part])
    return folder


#: Two kinds of sound that a tiny model tells apart: how many hertz, at least.
PITCHES = {"high": 900, "low": 150}
_CONVOLUTIONS = {"conv_dim": [16, 16], "conv_kernel": [10, 8], "conv_stride": [5, 8]}
_SOUND = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
    "mask_time_prob": 0.0,
    **_CONVOLUTIONS,
}


def sound_model(folder: Path, kind: str = "wav2vec2", writes: str = "", **changes) -> Path:
    """A model of sounds with two layers and random weights, and the settings of its feature extractor.

    With `writes`, the characters that it knows, it writes what it hears (CTC).
    """
    import torch
    import transformers

    torch.manual_seed(0)
    settings: dict = dict(_SOUND)
    extractor: Any = transformers.Wav2Vec2FeatureExtractor(sampling_rate=4000)
    if kind == "audio-spectrogram-transformer":
        settings = {
            **{n: v for n, v in _SOUND.items() if "conv" not in n},
            "max_length": 32,
            "num_mel_bins": 16,
        }
        extractor = transformers.ASTFeatureExtractor(max_length=32, num_mel_bins=16)
    if kind == "whisper":
        settings = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
        settings |= {"decoder_layers": 1, "num_mel_bins": 16, "max_source_positions": 50}
        extractor = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    labels = {"id2label": dict(enumerate(PITCHES)), "label2id": {n: i for i, n in enumerate(PITCHES)}}
    auto: Any = transformers.AutoModelForAudioClassification
    if writes:
        from optkit.models.ctc import Characters

        characters = Characters.of([writes])
        folder.mkdir(parents=True, exist_ok=True)
        characters.save(folder)
        auto, labels = transformers.AutoModelForCTC, {"vocab_size": len(characters.tokens), "pad_token_id": 0}
    config = transformers.AutoConfig.for_model(kind, **{**settings, **labels, **changes})
    model = auto.from_config(config)
    for p in model.parameters():
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    extractor.save_pretrained(str(folder))
    return folder


def sounds_data(folder: Path, train: int = 24, test: int = 12) -> Path:
    """WAV files of tones, in one folder per label and split."""
    from optkit.data.audio import wav

    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            label, hertz = list(PITCHES.items())[i % 2]
            time = np.arange(random.integers(1200, 2400)) / 4000
            tone = 0.3 * np.sin(2 * np.pi * (hertz + random.uniform(0, 100)) * time)
            file = folder / split / label / f"{i}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(wav(tone + random.normal(0, 0.01, len(time)), 4000))
    return folder


def speech_data(folder: Path, train: int = 24, validation: int = 12) -> Path:
    """WAV files of tones and metadata.csv beside them: a high tone is an "a", a low one a "b"."""
    from optkit.data.audio import wav

    random = np.random.default_rng(0)
    for split, count in (("train", train), ("validation", validation)):
        (folder / split).mkdir(parents=True)
        lines = ["file_name,transcription"]
        for i in range(count):
            letters = "".join(random.choice(["a", "b", " "], p=[0.45, 0.45, 0.1], size=random.integers(1, 5)))
            text = " ".join(f"a{letters}b".split())
            hertz = {"a": 900, "b": 300, " ": 0}
            tones = [np.sin(2 * np.pi * hertz[letter] * np.arange(900) / 4000) for letter in text]
            values = 0.3 * np.concatenate(tones) + random.normal(0, 0.01, 900 * len(text))
            (folder / split / f"{i}.wav").write_bytes(wav(values, 4000))
            lines.append(f"{i}.wav,{text}")
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def decoder(folder: Path, kind: str = "gpt2", positions: int = 64) -> Path:
    """A causal language model of two layers, `kind` gpt2 or llama (two heads of keys for four of queries).

    Its tokenizer knows the 256 bytes and `<|endoftext|>`.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    end = write_byte_tokenizer(folder, positions)
    sizes = {
        "vocab_size": end + 1,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "bos_token_id": end,
        "eos_token_id": end,
    }
    if kind == "llama":
        sizes |= {"num_key_value_heads": 2, "intermediate_size": 64}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **sizes))
    for p in model.parameters():  # logits far enough apart that rounding does not decide
        p.data.mul_(5.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def write_byte_tokenizer(folder: Path, positions: int) -> int:
    """A byte-level tokenizer without merges; the id of `<|endoftext|>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|endoftext|>"}))
    return len(alphabet)
