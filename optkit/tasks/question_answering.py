"""Extractive question answering: a question and a context → the span of the context that answers.

Metrics are those of SQuAD's evaluate-v1.1.py (Rajpurkar et al. 2016). Contexts longer than the model
are cut into windows that overlap; the best span over all windows is the answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import LONG, PAIRS
from optkit.errors import DataError
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.labelled import Input, JsonType

if TYPE_CHECKING:
    import datasets
    import torch


_PUNCTUATION = frozenset(string.punctuation)
#: Longest answer in tokens, and how many starts of a window are tried.
MAX_ANSWER = 30
#: Asked of built-in texts.
QUESTIONS = ("Who is it about?", "What happened?", "When was it?", "Where is it?", "How many are there?")
BEST = 20


#: What a row's answer may be: texts of the context, and where each begins.
Reference = dict[str, list[Any]]


@dataclass(frozen=True)
class Answer:
    """`text` is the context's `[start, end)` in characters; `score` the probability of its two ends."""

    text: str
    start: int
    end: int
    score: float

    @property
    def label(self) -> str:
        return self.text


@dataclass
class QuestionAnswering(Task):
    """`metric` is f1 (shared words) or exact_match, both from 0 to 1."""

    name: ClassVar[str] = "question-answering"
    architectures: ClassVar[tuple[str, ...]] = ("ForQuestionAnswering", "ForQuestionAnsweringSimple")
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    metrics: ClassVar = ("f1", "exact_match")
    columns: ClassVar = {"text": ("question",), "pair": ("context",), "label": ("answers",)}
    parts: ClassVar = {"text": "question", "pair": "context", "label": "answers"}
    takes: ClassVar[tuple[Field, ...]] = (Field("question"), Field("context"))
    metric: str
    encoder: TextEncoder

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> QuestionAnswering:
        return cls(cls.checked_metric(metric), TextEncoder(artifact.path))

    sameness: ClassVar[str] = "the same span of text"

    def probes(self, texts: Sequence[str]) -> list[Any]:
        return [(QUESTIONS[i % len(QUESTIONS)], text) for i, text in enumerate(texts)]

    def provoking(self) -> list[list[Any]]:
        return [[(a, b) for a, b in PAIRS if a != LONG]]

    def samples(self) -> Sequence[Any]:
        return [("Who?", text) for text in super().samples()]

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A question and its context, with a tab between them."""
        question, tab, context = line.partition("\t")
        if not tab:
            raise DataError(f"Expected a question, a tab and a context, received {line[:100]!r}.")
        return question, context

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """`inputs` are pairs (question, context), or mappings with these two keys."""
        pairs = [_pair(item, i) for i, item in enumerate(inputs)]
        encoded, each = self.encoder.windows(pairs, self.encoder.max_length // 4)
        if not pairs:
            return encoded
        owner, picks = [], []
        offsets: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        for example, windows in enumerate(each):
            chosen = [np.flatnonzero([s == 1 for s in w.sequence_ids]) for w in windows]
            owner += [example] * len(windows)
            picks += chosen
            spans = [np.array(w.offsets, dtype=np.int64)[c].reshape(-1, 2) for w, c in zip(windows, chosen)]
            offsets.append(np.concatenate(spans))
            numbers.append(np.concatenate([np.full(len(c), i, dtype=np.int64) for i, c in enumerate(chosen)]))
        carried = {
            "offsets": offsets,
            "window": numbers,
            "characters": [np.array([ord(c) for c in context], dtype=np.int64) for _, context in pairs],
        }
        return EncodedSet(
            encoded.arrays, encoded.pad, 0, Windows(np.array(owner, dtype=np.int64), picks, carried)
        )

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        parts = ("text", "pair", "label")
        question, context, answers = (self.column(rows.column_names, part, columns) for part in parts)
        pairs = list(zip(rows[question], rows[context]))
        encoded = self.encode(pairs)
        references = [
            checked_answers(given, item[1], row)
            for row, (item, given) in enumerate(zip(pairs, rows[answers]))
        ]
        return Labelled(
            *(encoded, references, [q for q, _ in pairs], pairs), columns=Columns(question, context, answers)
        )

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str:
        """Raises DataError where there is none: a question is asked of a context."""
        return cls.column(names, "pair")

    def decode(self, outputs: Outputs) -> list[Answer]:
        return [
            _best(start, end, offsets.reshape(-1, 2), window, characters)
            for start, end, offsets, window, characters in zip(
                outputs["start_logits"],
                outputs["end_logits"],
                outputs["offsets"],
                outputs["window"],
                outputs["characters"],
            )
        ]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The answers' texts, in an object array."""
        return np.array([answer.text for answer in self.decode(outputs)], dtype=object)

    def score(self, answers: np.ndarray, references: Sequence[Reference]) -> float:
        return float(self.outcomes(answers, references).mean())

    def outcomes(self, answers: np.ndarray, references: Sequence[Reference]) -> np.ndarray:
        """The metric of each example: right or wrong, or the share of words in common."""
        one = exact_match if self.metric == "exact_match" else f1
        scores = [max(one(a, truth) for truth in r["text"]) for a, r in zip(answers, references)]
        return np.array(scores, dtype=bool if self.metric == "exact_match" else np.float64)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")}

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        return {"question", "context", "answers"} <= set(rows.column_names)

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> QuestionAnswering:
        task = cls.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The first answer's tokens; position 0, which holds no context, in windows without it."""
        windows = labelled.encoded.windows
        assert windows is not None
        offsets, numbers = windows.carried["offsets"], windows.carried["window"]
        starts, ends, before, number = [], [], -1, 0
        for owner, picks in zip(windows.owner, windows.picks):
            number = number + 1 if owner == before else 0
            before = owner
            spans = offsets[owner].reshape(-1, 2)[numbers[owner] == number]
            reference = labelled.references[owner]
            begin = reference["answer_start"][0]
            end = begin + len(reference["text"][0])
            first = np.flatnonzero((spans[:, 0] <= begin) & (spans[:, 1] > begin))
            last = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] >= end))
            whole = len(first) and len(last)
            starts.append(np.array(picks[first[0]] if whole else 0, dtype=np.int64))
            ends.append(np.array(picks[last[0]] if whole else 0, dtype=np.int64))
        return {"start_positions": starts, "end_positions": ends}

    def json_type(self, text: JsonType) -> JsonType:
        return {"question": text, "context": text}

    def gives(self) -> tuple[Field, ...]:
        return Field("answer"), Field("start", "INT32"), Field("end", "INT32"), Field("score", "FP32")

    def fields(self, answer: Answer) -> tuple[Any, ...]:
        return answer.text, answer.start, answer.end, answer.score

    def name_of(self, reference: Reference) -> str:
        return reference["text"][0]


def normalize(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces, as the official script does it.

    >>> normalize("The  Eiffel Tower!")
    'eiffel tower'
    """
    bare = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(answer: str, truth: str) -> bool:
    return normalize(answer) == normalize(truth)


def f1(answer: str, truth: str) -> float:
    """The harmonic mean of precision and recall over words in common."""
    answered, expected = normalize(answer).split(), normalize(truth).split()
    same = sum((Counter(answered) & Counter(expected)).values())
    return 2 * same / (len(answered) + len(expected)) if same else 0.0


def checked_answers(value: Any, context: str, row: int) -> Reference:
    """`{"text": [...], "answer_start": [...]}` of a row. DataError where the context lacks the text."""
    try:
        texts, starts = list(value["text"]), [int(start) for start in value["answer_start"]]
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"Expected the answers of row {row} as a mapping of the lists text and answer_start, "
            f"received {value!r}."
        ) from None
    if not texts or len(texts) != len(starts):
        raise DataError(
            f"Expected at least one answer with its start in row {row}, received {len(texts)} answers and "
            f"{len(starts)} starts.",
            hint="Questions without an answer (SQuAD 2.0) are not supported; leave them out.",
        )
    for text, start in zip(texts, starts):
        if not text or start < 0 or context[start : start + len(text)] != text:
            raise DataError(
                f"Expected the answer {text!r} at character {start} of the context in row {row}, found "
                f"{context[max(start, 0) : max(start, 0) + len(text)]!r}.",
                hint="answer_start counts characters (not bytes or words) from 0.",
            )
    return {"text": texts, "answer_start": starts}


def _pair(item: Input, position: int) -> tuple[str, str]:
    if isinstance(item, Mapping):
        item = (item.get("question"), item.get("context"))
    if isinstance(item, (tuple, list)) and len(item) == 2 and all(isinstance(x, str) for x in item):
        return item[0], item[1]
    raise DataError(
        f"Expected a question and its context at position {position}, received {item!r}."[:300],
        hint='Write ("Who?", "context") or {"question": ..., "context": ...}.',
    )


def _best(
    start: np.ndarray, end: np.ndarray, offsets: np.ndarray, window: np.ndarray, characters: np.ndarray
) -> Answer:
    """The span of the largest start plus end logit, within one window and at most MAX_ANSWER tokens."""
    if not len(start):  # an empty context
        return Answer("", 0, 0, 0.0)
    best, first, last = -np.inf, 0, 0
    for number in np.unique(window):
        here = np.flatnonzero(window == number)
        starts = here[np.argsort(-start[here], kind="stable")[:BEST]]
        for s in starts:
            reach = np.arange(s, min(s + MAX_ANSWER, here[-1] + 1))
            e = int(reach[np.argmax(end[reach])])
            if start[s] + end[e] > best:
                best, first, last = float(start[s] + end[e]), int(s), e
    a, b = int(offsets[first, 0]), int(offsets[last, 1])
    text = "".join(map(chr, characters[a:b].tolist()))
    a += len(text) - len(text.lstrip())  # tokenizers that count the space before a word to it
    text = text.strip()
    score = np.exp(best - _log_sum(start) - _log_sum(end))
    return Answer(text, a, a + len(text), float(score))


def _log_sum(values: np.ndarray) -> float:
    values = values.astype(np.float64)
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))


TASK = QuestionAnswering
