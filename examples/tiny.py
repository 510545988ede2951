"""A tiny checkpoint with random weights, and data for it: what the examples work on unless told otherwise."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

WORDS = "a fine film the plot is thin and dull bright cast good bad very not one two".split()  # noqa: SIM905
#: Enough to see how it goes; for numbers to believe, leave these out.
QUICK = {"shapes": ("1xdata",), "rounds": 2, "processes": 1}


def given(folder: str | Path = "work") -> tuple[str, str]:
    """The checkpoint and the data on the command line, or new ones in `folder`."""
    if len(sys.argv) == 3:
        return sys.argv[1], sys.argv[2]
    return str(checkpoint(Path(folder, "checkpoint"))), str(data(Path(folder, "data")))


def checkpoint(folder: Path) -> Path:
    """A BERT of two layers that tells "negative" from "positive" as its random weights will."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    model = transformers.BertForSequenceClassification(config)
    for p in model.parameters():  # logits far enough apart that rounding does not decide
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def data(folder: Path) -> Path:
    """train.jsonl (64 rows) and validation.jsonl (40): {"text": ..., "label": ...}."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 64), ("validation", 40)):
        lines = [json.dumps(row) + "\n" for row in sentences(count, seed=count)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def sentences(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Random words with a random label."""
    rng = random.Random(seed)
    return [
        {
            "text": " ".join(rng.choices(WORDS, k=rng.randint(2, 20))),
            "label": rng.choice(["negative", "positive"]),
        }
        for _ in range(count)
    ]


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words that knows `WORDS`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"model_max_length": 64, "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
