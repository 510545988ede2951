"""Fill-mask: which word stands where the text has a mask? `predict` gives the k best for each mask.

Data is a column of texts. Where they hold masks, a column `target` holds the words behind them; else one word
of each text is masked, chosen by the text alone, so that every run scores the same words. A word counts that
is one token to this model: of several, no single mask could be right.

Training is BERT's: of a text's tokens 15% are learned, of which 80% become the mask, 10% another token.
Source: J. Devlin et al., "BERT" (NAACL 2019), task 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import LONG, TEXTS
from optkit.errors import CheckpointError, DataError
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.labelled import Answer, Input

if TYPE_CHECKING:
    import datasets
    import torch
    from transformers import PreTrainedTokenizerBase


#: How many words `predict` gives for a mask, and how many words of a text are tried as the masked one.
BEST, TRIED = 5, 4
#: Training: the share of tokens that are learned; of these, what share becomes the mask, and another token.
LEARNED, MASKED, REPLACED = 0.15, 0.8, 0.1
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Candidate:
    """A `word` for a mask, with its probability."""

    word: str
    score: float


@dataclass(frozen=True)
class Filled:
    """A prediction: for each mask of a text, in order, the `BEST` candidates, the likeliest first."""

    masks: list[list[Candidate]]

    @property
    def label(self) -> list[str]:
        return [candidates[0].word for candidates in self.masks]

    @property
    def score(self) -> float:
        """The least sure mask's."""
        return min(candidates[0].score for candidates in self.masks)


@dataclass
class FillMask(Task):
    """`metric` accuracy@k: the share of masked words that are among the k likeliest."""

    name: ClassVar[str] = "fill-mask"
    #: The last two read both ways unless they were configured as decoders, which optkit does not read.
    architectures: ClassVar[tuple[str, ...]] = (
        "ForMaskedLM",
        "XLMWithLMHeadModel",
        "FlaubertWithLMHeadModel",
    )
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    predicts_tokens: ClassVar[bool] = True
    columns: ClassVar = {
        "text": ("text", "sentence", "content", "document", "review"),
        "label": ("target", "targets"),
    }
    parts: ClassVar = {**Task.parts, "label": "masked words"}
    metrics: ClassVar = ("accuracy@1", "accuracy@5", "accuracy@10")
    sameness: ClassVar[str] = "the same likeliest word for every mask"
    metric: str
    encoder: TextEncoder

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> FillMask:
        encoder = TextEncoder(artifact.path)
        if encoder.mask_id is None:
            raise CheckpointError(
                f"Expected a tokenizer with a mask token in {str(artifact.path)!r}, received one without.",
                hint="Take a masked language model, such as BERT; a decoder is for --task causal-lm.",
            )
        return cls(cls.checked_metric(metric), encoder)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "sequence", model.config.vocab_size)}

    @property
    def mask(self) -> str:
        """The mask as a text has it."""
        return str(self.encoder.tokenization.mask_token)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """Texts with masks. Raises DataError for one without, or with one behind the model's last token."""
        for i, item in enumerate(inputs):
            if not isinstance(item, str):
                raise DataError(f"Expected a text at position {i}, received {type(item).__name__}.")
        encoded = self.encoder.encode(inputs)
        places = [np.flatnonzero(ids == self.encoder.mask_id) for ids in encoded.arrays["input_ids"]]
        for i, (item, there) in enumerate(zip(inputs, places)):
            if not len(there) or (len(there) < item.count(self.mask)):
                raise DataError(
                    f"Expected a text with {self.mask} within its first {self.encoder.max_length} tokens at "
                    f"position {i}, received {item[:100]!r}.",
                    hint=f"Write {self.mask} for the word that is asked for, and shorten what is longer.",
                )
        return self._asked(encoded, places)

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Masked texts, and for each the ids of its masked words. Rows without a word of one token are
        left out and counted. Raises DataError where no row is left."""
        name = self.column(rows.column_names, "text", columns)
        texts, label = texts_of(rows, name, "Name the right column with --text-column."), columns.label
        if label is not None or any(self.mask in text for text in texts):
            label = self.column(rows.column_names, "label", columns)
            wholes = [
                self._restored(text, words, i) for i, (text, words) in enumerate(zip(texts, rows[label]))
            ]
            asked = self._checked(wholes, texts)
        else:
            wholes, asked = texts, self._derived(texts)
        left = [i for i, pair in enumerate(asked) if pair is not None]
        if not left:
            raise DataError(
                f"Expected words of one token in column {name!r}, received {len(texts)} texts without any.",
                hint="Take texts in the language of the model.",
            )
        inputs, references = zip(*(pair for pair in asked if pair is not None))
        sources, skipped = [wholes[i] for i in left], len(texts) - len(left)
        read_from = Columns(name, None, label)
        return Labelled(self.encode(inputs), list(references), sources, list(inputs), skipped, read_from)

    def decode(self, outputs: Outputs) -> list[Filled]:
        return [Filled([self._best(row) for row in logits]) for logits in outputs["logits"]]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """For each example a tuple of tuples, in an object array: of each mask the ids of the likeliest."""
        best = outputs.get("best")  # as `reduced` gives it
        best = best if best is not None else [_likeliest(rows, self._most) for rows in outputs["logits"]]
        answers = np.empty(len(best), dtype=object)
        for i, rows in enumerate(best):
            answers[i] = tuple(tuple(int(x) for x in row) for row in rows)
        return answers

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        """Every mask counts alike, in whatever text it stands."""
        k = int(self.metric.partition("@")[2])
        hits = [
            right in ids[:k] for row, wanted in zip(answers, references) for ids, right in zip(row, wanted)
        ]
        return float(np.mean(hits)) if hits else float("nan")

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        return self._same(self.answers(outputs), self.answers(others))

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """Share of texts with the same likeliest word for every mask."""
        return float(self._same(answers, others).mean()) if len(answers) else 1.0

    def probes(self, texts: Sequence[str]) -> list[Input]:
        return [self._with_mask(text) for text in texts]

    def samples(self) -> Sequence[Input]:
        return self.probes([str(text) for text in super().samples()])

    def provoking(self) -> list[list[Input]]:
        return [self.probes([*TEXTS, LONG])]

    def gives(self) -> tuple[Field, ...]:
        """How many masks a text has varies, so they are one JSON list."""
        return (Field("masks"),)

    def fields(self, answer: Filled) -> tuple[Any, ...]:
        return (json.dumps(self.describe(answer)["masks"], ensure_ascii=False),)

    def alike(self, answer: Filled, other: Filled) -> float:
        """The share of masks with the same likeliest word."""
        return float(np.mean([a == b for a, b in zip(answer.label, other.label)]))

    def line(self, answer: Filled) -> str:
        masks = (", ".join(f"{x.word} {x.score:.4f}" for x in candidates) for candidates in answer.masks)
        return " | ".join(masks).replace("\n", "\\n")

    def name_of(self, reference: Answer) -> Json:
        return " ".join(self.encoder.token(i) for i in reference)

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> FillMask:
        task = cls.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """Texts without masks of their own are masked at random, the same for the same seed."""
        if seed is None or labelled.columns.label is not None:
            return labelled
        whole = [windows[0] for windows in self.encoder.cut(labelled.sources, 0)]
        encoded = self.encoder.joined([[window] for window in whole])
        places, references = [], []
        for i, (window, ids) in enumerate(zip(whole, encoded.arrays["input_ids"])):
            random = np.random.default_rng([seed, i])
            words = np.flatnonzero(np.equal(window.special_tokens_mask, 0))
            chosen = np.sort(random.permutation(words)[: max(1, round(LEARNED * len(words)))])
            fate = random.random(len(chosen))
            references.append(tuple(ids[chosen].tolist()))
            ids[chosen[fate < MASKED]] = self.encoder.mask_id
            other = chosen[(fate >= MASKED) & (fate < MASKED + REPLACED)]
            ids[other] = random.integers(0, self.encoder.vocabulary_size, len(other))
            places.append(chosen)
        return replace(labelled, encoded=self._asked(encoded, places), references=references)

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        windows = labelled.encoded.windows
        assert windows is not None
        targets = [np.full(int(length), -100, dtype=np.int64) for length in labelled.encoded.lengths]
        for row, places, reference in zip(targets, windows.picks, labelled.references):
            row[places] = reference
        return {"labels": targets}

    def reduced(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, vocabulary) → ids of the likeliest, (batch, tokens, k), NaN where logits are."""
        logits = logits[0] if isinstance(logits, tuple) else logits
        best = logits.topk(min(self._most, logits.shape[-1]), dim=-1).indices.float()
        return best.masked_fill(~logits.isfinite().all(-1, keepdim=True), float("nan"))

    def reduced_outputs(self, network: torch.nn.Module) -> dict[str, Shape]:
        return {"best": ("batch", "sequence", self._most)}

    def plain_outputs(
        self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], outputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """As transformers' FillMaskPipeline: the logits where the ids are the tokenizer's mask."""
        return {"logits": outputs["logits"][[i for i, x in enumerate(ids) if x == tokenizer.mask_token_id]]}

    def plain_answers(self, tokenizer: PreTrainedTokenizerBase, outputs: Outputs) -> list[Json]:
        import torch

        rows = [torch.from_numpy(logits) for logits in outputs["logits"]]
        return [logits.topk(min(self._most, logits.shape[-1])).indices.tolist() for logits in rows]

    def _asked(self, encoded: EncodedSet, places: list[np.ndarray]) -> EncodedSet:
        """`encoded`, of which outputs count at these `places` of each example."""
        counts = {"count": [np.array([len(there)]) for there in places]}
        windows = Windows(np.arange(len(places)), places, counts) if places else None
        return replace(encoded, windows=windows)

    def _restored(self, text: str, words: object, row: int) -> str:
        """`text` with `words`, one or a list, in place of its masks. DataError names the row."""
        words = [words] if isinstance(words, str) else words
        parts = text.split(self.mask)
        if not isinstance(words, list) or len(words) != len(parts) - 1 or not all(map(str, words)):
            raise DataError(
                f"Expected a word for each of the {len(parts) - 1} masks ({self.mask}) in row {row}, "
                f"received {words!r}."
            )
        return "".join(part for pair in zip(parts, [*map(str, words), ""]) for part in pair)

    def _checked(
        self, wholes: Sequence[str], masked: Sequence[str]
    ) -> list[tuple[str, tuple[int, ...]] | None]:
        """Each masked text with the ids behind its masks; None where those words are not one token each."""
        both = (self.encoder.encode(texts).arrays["input_ids"] for texts in (wholes, masked))
        checked: list[tuple[str, tuple[int, ...]] | None] = []
        for text, right, asked in zip(masked, *both):
            there = asked == self.encoder.mask_id
            same = len(right) == len(asked) and np.array_equal(right[~there], asked[~there])
            whole = same and there.sum() == text.count(self.mask) > 0 and self.encoder.mask_id not in right
            checked.append((text, tuple(right[there].tolist())) if whole else None)
        return checked

    def _derived(self, texts: Sequence[str]) -> list[tuple[str, tuple[int, ...]] | None]:
        """Each text with one word masked, by the hash of the text; None where none of `TRIED` words fits."""
        orders = []
        for text in texts:
            words = [match.span() for match in _WORD.finditer(text)]
            seed = int.from_bytes(sha256(text.encode(errors="replace")).digest()[:8])
            orders.append([words[i] for i in np.random.default_rng(seed).permutation(len(words))[:TRIED]])
        asked: list[tuple[str, tuple[int, ...]] | None] = [None] * len(texts)
        for attempt in range(TRIED):
            open_ = [i for i, order in enumerate(orders) if asked[i] is None and attempt < len(order)]
            spans = [orders[i][attempt] for i in open_]
            masked = [f"{texts[i][:a]}{self.mask}{texts[i][b:]}" for i, (a, b) in zip(open_, spans)]
            for i, pair in zip(open_, self._checked([texts[i] for i in open_], masked)):
                asked[i] = pair
        return asked

    def _with_mask(self, text: str) -> str:
        """`text` with a mask at the end that no truncation takes away."""
        cut_right = self.encoder.truncation_side == "right"
        return f"{self.mask} {text}" if cut_right else f"{text} {self.mask}"

    def _best(self, logits: np.ndarray) -> list[Candidate]:
        shifted = np.exp(logits.astype(np.float64) - logits.max())
        scores = shifted / shifted.sum()
        return [Candidate(self.encoder.token(int(i)), float(scores[i])) for i in _likeliest(logits, BEST)]

    @property
    def _most(self) -> int:
        return max(int(metric.partition("@")[2]) for metric in self.metrics)

    @staticmethod
    def _same(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
        pairs = zip(answers, others, strict=True)
        return np.array([[x[0] for x in a] == [y[0] for y in b] for a, b in pairs], dtype=bool)


def _likeliest(logits: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest of (..., vocabulary), the largest first."""
    return np.argsort(-logits, axis=-1, kind="stable")[..., :count]


TASK = FillMask
