"""A small CLIP, trained on drawn shapes and their captions: the two towers of `benchmarks/vision.py`.

Discs, squares and rings in six colours on noise, in any place and size; "a red disc". Of three pairs of
colour and shape no image is ever trained on: their labels are zero-shot for the two together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDE, STEPS, SEED = 64, 400, 0
COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 70, 230),
    "yellow": (230, 220, 50),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
SHAPES = ("disc", "square", "ring")
LABELS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
#: Never trained on.
UNSEEN = ("red ring", "blue disc", "white square")
TEMPLATE = "a {}"
#: Images of each label in the splits of the data.
COUNTS = {"train": 10, "validation": 20}


def draw(label: str, random: np.random.Generator) -> np.ndarray:
    """A picture of `label`, (SIDE, SIDE, 3) uint8."""
    colour, shape = label.split()
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = random.integers(88, 148, (SIDE, SIDE, 3), dtype=np.uint8)
    size = int(random.integers(SIDE // 4, SIDE // 2))
    left, top = (int(n) for n in random.integers(0, SIDE - size, 2))
    apart = np.hypot(x + 0.5 - left - size / 2, y + 0.5 - top - size / 2)
    inside = (x >= left) & (x < left + size) & (y >= top) & (y < top + size)
    if shape != "square":
        inside = apart <= size / 2
    if shape == "ring":
        inside &= apart >= size / 3.5
    pixels[inside] = COLOURS[colour]
    return pixels


def data(folder: Path) -> Path:
    """Images with a label, a caption and the hypothesis's template, as JSONL."""
    from PIL import Image

    for split, count in COUNTS.items():
        random, lines = np.random.default_rng(len(split)), []
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for label in LABELS:
            for i in range(count):
                file = folder / "images" / f"{split}-{label.replace(' ', '-')}-{i}.png"
                Image.fromarray(draw(label, random)).save(file)
                row = {"image": f"images/{file.name}", "label": label, "caption": TEMPLATE.format(label)}
                lines.append(json.dumps({**row, "hypothesis_template": TEMPLATE}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def train(folder: Path) -> dict[str, Any]:
    """A CLIP of some 400,000 weights in `folder`, by its contrastive loss; a batch has each label once."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    _settings(folder)
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4}
    text = {
        **sizes,
        "hidden_size": 64,
        "intermediate_size": 128,
        "vocab_size": 32,
        "max_position_embeddings": 16,
    }
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    vision = {**sizes, "hidden_size": 96, "intermediate_size": 192, "image_size": SIDE, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=64)
    model = transformers.CLIPModel(config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS)
    loss = torch.zeros(1)
    for images, texts in _batches():
        feeds = processor(images, return_tensors="pt") | tokenizer(texts, padding=True, return_tensors="pt")
        loss = model(**feeds, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval().save_pretrained(str(folder))
    weights = sum(p.numel() for p in model.parameters())
    return {"steps": STEPS, "last_loss": loss.item(), "weights": weights, "unseen": UNSEEN}


def _batches() -> Iterator[tuple[list[np.ndarray], list[str]]]:
    random, seen = np.random.default_rng(SEED), [label for label in LABELS if label not in UNSEEN]
    for _ in range(STEPS):
        yield [draw(label, random) for label in seen], [TEMPLATE.format(label) for label in seen]


def _settings(folder: Path) -> None:
    """A tokenizer of whole words, and the image processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "a", *COLOURS, *SHAPES]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", pair="$A $B", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    size = {"height": SIDE, "width": SIDE}
    files = {
        "tokenizer_config.json": {
            **{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 16, "pad_token": "[PAD]"}
        },
        "preprocessor_config.json": {
            **{"image_processor_type": "CLIPImageProcessor", "size": size, "do_center_crop": False}
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
