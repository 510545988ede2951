"""A small model and its data for each task of text_tasks.py, whose docstring says what they are."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
#: Tokens of a paragraph that an embedder reads.
TOKENS = 192
Row = dict[str, Any]


def zero_shot(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    texts = {split: _lines("banking77", split) for split in ("train", "test")}
    intents = sorted({row["label"] for row in texts["train"]})
    random.Random(0).shuffle(intents)
    unseen, seen = intents[:20], intents[20:]

    def pairs(rows: list[Row]) -> Iterator[Row]:
        draw = random.Random(1)
        for row in rows:
            others = draw.sample([x for x in seen if x != row["label"]], 2)
            for intent in (row["label"], *others):
                label = "entailment" if intent == row["label"] else "not_entailment"
                yield {
                    "premise": row["text"],
                    "hypothesis": f"This example is {_words(intent)}.",
                    "label": label,
                }

    def asked(rows: list[Row]) -> Iterator[Row]:
        draw = random.Random(2)
        for row in rows:
            candidates = [row["label"], *draw.sample([x for x in unseen if x != row["label"]], 7)]
            draw.shuffle(candidates)
            labels = [_words(x) for x in candidates]
            yield {"text": row["text"], "candidate_labels": labels, "label": _words(row["label"])}

    known, new = (
        [row for row in texts[split] if row["label"] in some]
        for split, some in (("train", seen), ("test", unseen))
    )
    drawn, held = _drawn(known, 1000, share), int(100 * share)
    _write(home / "pairs", train=pairs(drawn[held:]), validation=pairs(drawn[:held]))
    _write(data, train=asked(_drawn(known, 40, share)), validation=asked(_drawn(new, 200, share)))
    return _tuned(home, home / "pairs", "text-classification")


def multiple_choice(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    def asked(rows: list[Row]) -> Iterator[Row]:
        draw = random.Random(1)
        for row in rows:
            start, sentences = row["answers"]["answer_start"][0], []
            for part in re.finditer(r".+?[.!?]+(?=\s|$)\s*|.+$", row["context"]):
                sentences.append((part.start() <= start < part.end(), part[0].strip()))
            wrong = [text for right, text in sentences if not right]
            if len(wrong) >= 3 and len(wrong) + 1 == len(sentences):
                right = next(text for right, text in sentences if right)
                choices = [right, *draw.sample(wrong, 3)]
                draw.shuffle(choices)
                yield {"question": row["question"], "choices": choices, "answer": choices.index(right)}

    train, held = (_drawn(_lines("squad", split), n, share) for split, n in _QUESTIONS)
    _write(data, train=asked(train), validation=asked(held))
    return _tuned(home, data, "multiple-choice")


#: Questions of SQuAD that are drawn; some have a paragraph of fewer than four sentences and are left out.
_QUESTIONS = (("train", 700), ("validation", 350))


def multi_vector(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    modules = [
        Transformer(_encoder(home), max_seq_length=TOKENS),
        MultiVectorMask(skiplist_words=list(".,;:!?'\"()-")),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(home / "model"))
    return _paragraphs(home, data, share)


def sparse(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    import torch
    import transformers
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    folder, masked = _encoder(home), home / "masked"
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, num_hidden_layers=4).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        transform = model.cls.predictions.transform.dense
        transform.weight.copy_(torch.eye(len(transform.weight)))
        transform.bias.zero_()
        some = [row["question"] for row in _drawn(_lines("squad", "train"), 32, 1.0)]
        logits = model(**tokenizer(some, padding=True, return_tensors="pt")).logits
        model.cls.predictions.decoder.bias.fill_(-float(torch.quantile(logits[:, 1:8, ::8], 0.998)))
    model.save_pretrained(str(masked))
    tokenizer.save_pretrained(str(masked))
    modules = [
        Transformer(str(masked), transformer_task="fill-mask", max_seq_length=TOKENS // 2),
        SpladePooling("max"),
    ]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(home / "model"))
    return _paragraphs(home, data, share)


def _paragraphs(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    """Questions with their paragraphs, each paragraph once."""
    splits = {}
    for split, count in (("train", 64), ("validation", 250)):
        each = {row["context"]: row for row in _lines("squad", split)}
        drawn = _drawn(list(each.values()), count, share)
        splits[split] = [{"query": row["question"], "document": row["context"]} for row in drawn]
    _write(data, **splits)
    return home / "model", {}


def layout(home: Path, data: Path, share: float) -> tuple[Path, Row]:
    import torch
    import transformers

    torch.manual_seed(0)
    folder, start = _encoder(home), home / "start"
    encoder = transformers.AutoModel.from_pretrained(folder)
    sizes = {name: value for name, value in encoder.config.to_dict().items() if name in _SIZES}
    model = transformers.LayoutLMModel(transformers.LayoutLMConfig(**sizes))
    missing, unexpected = model.load_state_dict(encoder.state_dict(), strict=False)
    assert not unexpected, unexpected
    assert all("position_embeddings" in name for name in missing), missing
    model.save_pretrained(str(start))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(str(start))
    draw = random.Random(0)
    answers = [row["answers"]["text"][0].split() for row in _lines("squad", "train")]
    names = [words for words in answers if len(words) <= 3 and all(word.isalpha() for word in words)]
    pages = {"train": 400, "validation": 150}
    _write(data, **{x: [_page(draw, names) for _ in range(int(n * share))] for x, n in pages.items()})
    return _tuned(home, data, "layout-token-classification", start, epochs=5.0, learning_rate=4e-4)


#: What LayoutLM's configuration shares with BERT's.
_SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"),
)


def _page(draw: random.Random, names: list[list[str]]) -> Row:
    """An invoice: words, their boxes, and tags that follow from where they stand."""

    def line(left: int, top: int, words: list[str], tag: str = "O") -> list[tuple[str, list[int], str]]:
        placed = []
        for i, word in enumerate(words):
            right = min(left + 12 * len(word), 1000)
            whole = tag if tag == "O" else f"{'I' if i else 'B'}-{tag}"
            placed.append((word, [min(left, right), top, right, top + 15], whole))
            left = right + 8
        return placed

    def date() -> list[str]:
        return [f"{draw.randint(1, 28)}.{draw.randint(1, 12)}.{draw.randint(2020, 2026)}"]

    def amount() -> list[str]:
        return [f"{draw.randint(1, 900)}.{draw.randint(0, 99):02}"]

    top, shift = draw.randint(60, 160), draw.randint(0, 40)
    blocks = [
        line(60 + shift, top, draw.choice(names), "sender"),
        line(560 + shift, top, draw.choice(names), "receiver"),
        line(700 + shift, top + 80, date(), "date"),
    ]
    for _ in range(draw.randint(3, 6)):
        blocks.append(line(60 + shift, top + 80 * len(blocks), draw.choice(names)))
        blocks[-1] += line(780 + shift, top + 80 * (len(blocks) - 1), amount())
    last = min(top + 80 * len(blocks), 940)
    blocks += [
        line(780 + shift, last, amount(), "total"),
        line(60 + shift, min(last + 30, 970), date(), "due"),
    ]
    draw.shuffle(blocks)
    words, boxes, tags = zip(*(one for block in blocks for one in block))
    return {"tokens": list(words), "bboxes": list(boxes), "ner_tags": list(tags)}


#: Task → what writes a model and its data into two folders, a share of the rows, and gives the model and what
#: the result says of it.
TASKS: dict[str, Callable[[Path, Path, float], tuple[Path, Row]]] = {
    "zero-shot-classification": zero_shot,
    "multiple-choice": multiple_choice,
    "multi-vector-embeddings": multi_vector,
    "sparse-embeddings": sparse,
    "layout-token-classification": layout,
}


def _encoder(home: Path) -> str:
    """The encoder without the modules behind it, in a folder of its own."""
    from transformers import AutoModel, AutoTokenizer

    from optkit.compression.demo import encoder_folder

    source, folder = os.environ.get("OPTKIT_ENCODER") or str(encoder_folder()), home / "encoder"
    for auto in (AutoModel, AutoTokenizer):
        auto.from_pretrained(source).save_pretrained(str(folder))
    return str(folder)


def _tuned(home: Path, data: Path, task: str, start: Path | None = None, **settings: float) -> Any:
    """A checkpoint trained on `data`, for one epoch unless told, and what the result says of it."""
    import optkit

    begun, out = time.monotonic(), home / "tuned"
    settings = {"epochs": 1.0, "batch": 16, **settings}
    trained = optkit.finetune(*(start or _encoder(home), data, out), task=task, precision="bf16", **settings)
    return out, {"training": {"score": trained.score, "seconds": round(time.monotonic() - begun)}}


def _lines(name: str, split: str) -> list[Row]:
    with (SHARED / name / f"{split}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _drawn(rows: list[Row], count: int, share: float) -> list[Row]:
    """`share` of `count` rows, with a fixed seed."""
    return random.Random(0).sample(rows, min(len(rows), int(count * share)))


def _words(intent: str) -> str:
    return intent.replace("_", " ").rstrip("?").lower()


def _write(folder: Path, **splits: Any) -> None:
    folder.mkdir()
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
