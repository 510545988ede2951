"""Small random-weight models with the tokenizers of `tests.models.test_tokenization`, for every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import tiny
from tests.models.test_tokenization import write

HEADS = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "causal-lm": "AutoModelForCausalLM",
}
LABELS = {"text-classification": ["no", "maybe", "yes"], "token-classification": ["O", "B-x", "I-x"]}


def model(folder: Path, tokenizer: str, kind: str, task: str, **config: Any) -> Path:
    """A model of two layers under the head of `task`, reading with `tokenizer`."""
    import torch
    import transformers

    torch.manual_seed(0)
    write(folder, tokenizer)
    known = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    sizes = {**tiny("bert" if kind in ("albert", "gpt2") else kind), "vocab_size": len(known) + 8}
    sizes |= {"max_position_embeddings": 66 if kind == "roberta" else 64}
    if kind == "albert":
        sizes |= {"embedding_size": 16}
    labels = LABELS.get(task, [])
    names = {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}}
    made = transformers.AutoConfig.for_model(kind, **{**sizes, **(names if labels else {}), **config})
    network = getattr(transformers, HEADS[task]).from_config(made)
    for p in network.parameters():  # outputs far enough apart that rounding does not decide
        p.data.mul_(3.0) if p.dim() > 1 else None
    network.save_pretrained(str(folder))
    return folder
