"""Small encoder-decoder checkpoints with random weights, of the families that optkit knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.conftest import WORDS, sentences

SPECIAL = ["<pad>", "</s>", "<unk>", "<s>", "de_DE"]
#: pad, end, start of BART-like texts, and a token for a language.
PAD, END, UNKNOWN, BEGIN, LANGUAGE = range(5)
#: Sources of several lengths: one of a word, an empty one, and one that is longer than the encoder.
TEXTS = [row["text"] for row in sentences(5, seed=3)] + ["good", "", "not bad " * 40]
_BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
}
_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
#: Family → (config class, model class, configuration, generation config).
FAMILIES: dict[str, tuple[str, str, dict, dict]] = {
    "T5": ("T5Config", "T5ForConditionalGeneration", _T5, {"decoder_start_token_id": PAD}),
    "mT5": (
        "MT5Config",
        "MT5ForConditionalGeneration",
        _T5,
        {"decoder_start_token_id": PAD, "eos_token_id": [END, 6, 9, 14], "suppress_tokens": [PAD]},
    ),
    "BART": (
        "BartConfig",
        "BartForConditionalGeneration",
        _BART,
        {
            "decoder_start_token_id": END,
            "forced_bos_token_id": BEGIN,
            "forced_eos_token_id": END,
            "no_repeat_ngram_size": 3,
            "min_length": 4,
            "length_penalty": 2.0,
            "early_stopping": True,
        },
    ),
    "Marian": (
        "MarianConfig",
        "MarianMTModel",
        _BART,
        {
            "decoder_start_token_id": PAD,
            "forced_eos_token_id": END,
            "bad_words_ids": [[PAD], [9, 10]],
            "renormalize_logits": True,
        },
    ),
    "mBART": (
        "MBartConfig",
        "MBartForConditionalGeneration",
        _BART,
        {"decoder_start_token_id": LANGUAGE, "forced_eos_token_id": END, "repetition_penalty": 1.3},
    ),
    "Pegasus": (
        "PegasusConfig",
        "PegasusForConditionalGeneration",
        _BART,
        {
            "decoder_start_token_id": PAD,
            "length_penalty": 0.8,
            "early_stopping": "never",
            "suppress_tokens": [7],
            "begin_suppress_tokens": [8],
        },
    ),
    "M2M100": (
        "M2M100Config",
        "M2M100ForConditionalGeneration",
        _BART,
        {
            "decoder_start_token_id": END,
            "forced_bos_token_id": LANGUAGE,
            "no_repeat_ngram_size": 2,
            "eos_token_id": [END, 6, 9, 14],
        },
    ),
}


def checkpoint(
    family: str,
    folder: Path,
    beams: int = 4,
    longest: int = 16,
    tokenizer: Callable[[Path], int] | None = None,
    **generation: object,
) -> Path:
    """A model of `family` that writes texts of different lengths, with a tokenizer of whole words, or the one
    that `tokenizer` writes, which gives its number of tokens."""
    import torch
    import transformers

    config_class, model_class, config, stated = FAMILIES[family]
    folder.mkdir(parents=True, exist_ok=True)
    size = (tokenizer or _tokenizer)(folder)
    torch.manual_seed(1)
    tokens = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": BEGIN}
    start = {"decoder_start_token_id": stated["decoder_start_token_id"]}
    made = getattr(transformers, config_class)(vocab_size=size, dropout_rate=0.0, **tokens, **start, **config)
    model = getattr(transformers, model_class)(made).eval()
    for name, weight in model.named_parameters():  # answers that depend on the source, and end now and then
        if weight.dim() > 1 and "layer_norm" not in name:
            weight.data = torch.randn_like(weight) * (0.35 if "shared" not in name else 0.7)
    model.tie_weights()
    settings = {**tokens, **stated, "max_length": longest, "num_beams": beams, **generation}
    model.generation_config = transformers.GenerationConfig(**settings)
    model.save_pretrained(str(folder))
    return folder


def marian_pieces(folder: Path) -> int:
    """Marian's own tokenizer: a model of SentencePiece for each language, and one vocabulary."""
    source, target = trained(_ENGLISH, "unigram"), trained(_GERMAN, "unigram")
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    both = [*pieces(source), *pieces(target)]
    both.remove(pieces(source)[10])  # a piece that the vocabulary does not have
    return _vocabulary(folder, both, {"tokenizer_class": "MarianTokenizer", "source_lang": "en"})


def m2m_pieces(folder: Path) -> int:
    """M2M100's own tokenizer: one model, and a hundred languages behind the vocabulary."""
    model = trained(_ENGLISH + _GERMAN, "bpe")
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    names = {"tokenizer_class": "M2M100Tokenizer", "src_lang": "de", "tgt_lang": "en"}
    return _vocabulary(folder, pieces(model), names) + 100


_ENGLISH = [
    "the film is a fine piece of work",
    "good, bad or not",
    "it's 3.14 o'clock",
    "what a dull plot",
] * 9
_GERMAN = [
    "der Film ist ein sch\u00f6nes St\u00fcck",
    "gut, schlecht oder nicht \u00df\u00fc",
    "ein langer Tag",
] * 9


def trained(lines: list[str], kind: str, size: int = 50) -> bytes:
    """A small model of SentencePiece."""
    import io

    import sentencepiece

    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=stream,
        vocab_size=size,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return stream.getvalue()


def pieces(model: bytes) -> list[str]:
    """All but its own special tokens."""
    import sentencepiece

    opened = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [opened.IdToPiece(i) for i in range(3, len(opened))]


def _vocabulary(folder: Path, some: list[str], settings: dict) -> int:
    tokens = dict.fromkeys([*SPECIAL[:4], ">>de<<", *some])
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, **settings}))
    return len(tokens)


def lengths_of_same_texts(session, source: Path, beams: int) -> set[int]:
    """Lengths of texts that optkit writes through `session`, each the one that `generate` of the checkpoint
    `source` writes: in one batch padded on the right, in one padded on the left, and alone."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from optkit import Artifact
    from optkit.runtimes.search import search
    from optkit.runtimes.seq2seq import ended
    from optkit.tasks.base import open_task

    model = AutoModelForSeq2SeqLM.from_pretrained(str(source)).eval()
    encoded = open_task(Artifact.open(source)).encode(TEXTS)
    right, lengths = encoded.batch(range(len(TEXTS))), set()
    rolled = {
        name: [np.roll(row, len(row) - n) for row, n in zip(a, encoded.lengths)] for name, a in right.items()
    }
    left = {name: np.array(rows) for name, rows in rolled.items()}
    assert (left["attention_mask"][:, -1] == 1).all()
    settings = replace(session.settings, num_beams=beams)
    for feeds in (right, left, encoded.batch([1])):
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        expected = model.generate(**tensors, num_beams=beams)[:, 1:].tolist()
        written = ended(search(session.writer(feeds, beams), len(expected), settings), settings)
        for own, theirs in zip(written, expected):
            text = own[own >= 0].tolist()
            assert text == theirs[: len(text)]
            assert not set(theirs[len(text) :]) - {PAD, settings.ends[0]}
            lengths.add(len(text))
    return lengths


def _tokenizer(folder: Path) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", END)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    settings = {"model_max_length": 64, "tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return len(vocabulary)
