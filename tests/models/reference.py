"""What transformers itself answers: its tokenizer or processor, its padding, its model. No code of optkit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.models import several
from tests.models.build import OF_QUERIES, auto_of
from tests.models.families import (
    DETECT,
    IMAGE,
    LM,
    POSITIONS,
    QA,
    SEGMENT,
    SOUND,
    SPEECH,
    TOKENS,
    TOWERS,
    VECTOR,
    Family,
)

#: Tasks whose inputs are images.
IMAGES = (IMAGE, DETECT, SEGMENT)
#: Tokens that a language model writes behind each prompt.
NEW_TOKENS = 10


class Reference:
    """A checkpoint as transformers' documentation says to use it.

    Outputs are one array per input: (labels,), (tokens, labels), (tokens, 2), or (width,).
    """

    def __init__(self, folder: Path, task: str) -> None:
        import torch
        import transformers

        self.torch, self.task = torch, task
        if task in (*IMAGES, TOWERS):
            self.processor = transformers.AutoImageProcessor.from_pretrained(str(folder))
        elif task in (SOUND, SPEECH):
            self.processor = transformers.AutoFeatureExtractor.from_pretrained(str(folder))
        if task not in (*IMAGES, SOUND, SPEECH):
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        config = transformers.AutoConfig.from_pretrained(str(folder))
        auto = (
            "AutoModelForTextEncoding"
            if task == VECTOR and config.model_type in _T5
            else auto_of(config.model_type, task)
        )
        self.model = getattr(transformers, auto).from_pretrained(str(folder), dtype=torch.float32).eval()

    def alone(self, inputs: list[Any]) -> list[np.ndarray]:
        return [self.together([one])[0] for one in inputs]

    def together(self, inputs: list[Any]) -> list[np.ndarray]:
        """The answers of one batch, padded where its inputs are of unequal lengths; images for detection and
        segmentation, and sounds, come one by one, as transformers' pipelines have it."""
        if self.task in (DETECT, SEGMENT, SOUND, SPEECH) and len(inputs) > 1:
            return self.alone(inputs)
        if self.task in several.OUTPUTS:
            return several.together(self, inputs)
        feeds = self._feeds(inputs)
        with self.torch.no_grad():
            answer = self.model(**feeds)
        if self.task == SEGMENT and self.model.config.model_type in OF_QUERIES:
            made = self.processor.post_process_semantic_segmentation(answer, return_segmentation_scores=True)
            return [one["segmentation_scores"].numpy() for one in made]
        if self.task == DETECT:
            return list(self.torch.cat([answer.logits, answer.pred_boxes], dim=-1).numpy())
        if self.task == QA:
            values = self.torch.stack([answer.start_logits, answer.end_logits], dim=-1)
        else:
            values = answer[0] if self.task == VECTOR else answer.logits
        if self.task not in (QA, TOKENS, VECTOR, LM):
            return list(values.numpy())
        rows = [row[mask.bool()].numpy() for row, mask in zip(values, feeds["attention_mask"])]
        if self.task == VECTOR:  # sentence-transformers' own default: the mean over the tokens
            return [row.mean(axis=0) for row in rows]
        if self.task == LM:
            masked = zip(feeds["input_ids"], feeds["attention_mask"])
            return [_likelihood(row, ids[mask.bool()].numpy()) for row, (ids, mask) in zip(rows, masked)]
        return rows

    def written(self, prompts: list[str]) -> list[str]:
        """What follows each prompt, greedily."""
        texts = []
        for prompt in prompts:
            feeds = self.tokenizer(prompt, return_tensors="pt")
            with self.torch.no_grad():
                ids = self.model.generate(**feeds, do_sample=False, max_new_tokens=NEW_TOKENS)
            before = self.tokenizer.decode(feeds["input_ids"][0], skip_special_tokens=True)
            texts.append(self.tokenizer.decode(ids[0], skip_special_tokens=True)[len(before) :])
        return texts

    def _feeds(self, inputs: list[Any]) -> Any:
        if self.task in IMAGES:
            return self.processor(images=inputs, return_tensors="pt")
        if self.task in (SOUND, SPEECH):
            rate = self.processor.sampling_rate
            return self.processor(inputs[0], sampling_rate=rate, return_tensors="pt")
        texts = inputs if isinstance(inputs[0], str) else [list(part) for part in zip(*inputs)]
        parts = (texts,) if isinstance(inputs[0], str) else texts
        return self.tokenizer(*parts, padding=len(inputs) > 1, return_tensors="pt")

    def special_tokens(self) -> int:
        return self.tokenizer.num_special_tokens_to_add(pair=self.task in (QA, *several.PAIRS))


_T5 = ("t5", "mt5", "umt5")


def inputs_for(family: Family, task: str, special: int) -> list[Any]:
    """Inputs of unequal lengths: few tokens, around the family's window, twice past it, and the longest."""
    if task in IMAGES:
        return _images()
    if task == TOWERS:
        return [(image, several.LABELS) for image in _images()]
    if task in (SOUND, SPEECH):
        return _sounds()
    window = family.window
    lengths = [
        5 if task in (QA, *several.PAIRS) else 3,
        window - 1,
        window,
        window + 1,
        2 * window + 3,
        POSITIONS,
    ]
    texts = [_words(max(1, n - special), seed) for seed, n in enumerate(lengths)]
    if task in several.OUTPUTS:
        return several.inputs_of(task, texts)
    if task == QA:
        return [(text.split(" ")[0], " ".join(text.split(" ")[1:])) for text in texts]
    return texts


def _words(count: int, seed: int) -> str:
    """`count` words of a letter, one token each."""
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), count))


def _images() -> list[Any]:
    from PIL import Image

    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (high, wide, 3), dtype=np.uint8))
        for high, wide in ((32, 32), (40, 23), (64, 64))
    ]


def _sounds() -> list[Any]:
    """At 16,000 samples a second; two are equally long, and of one convolutions leave some over."""
    rng = np.random.default_rng(0)
    times = [np.arange(count) / 16_000 for count in (1600, 1603, 1600, 6001, 16_000)]
    tones = [np.sin(2 * np.pi * rng.uniform(100, 900) * time * (1 + time)) for time in times]
    return [(0.3 * tone + rng.normal(0, 0.03, len(tone))).astype(np.float32) for tone in tones]


def _likelihood(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The log-likelihood of tokens 1, 2, ... given those before, one number."""
    rows = logits[:-1].astype(np.float64)
    rows = rows - rows.max(axis=1, keepdims=True)
    rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return np.array([rows[np.arange(len(ids) - 1), ids[1:]].sum()])
