"""Extractive question answering: a question and a context → the span of the context that answers.

Contexts longer than the model are cut into windows that overlap; the best span over all windows is the
answer. Where config.json has `null_score_diff_threshold`, the first token of a window stands for no answer,
as in transformers' run_qa.py: none is given where its logits, in the window where they are lowest, exceed
those of the best span by more than the threshold. `finetune` chooses it on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import LONG, PAIRS, QUESTIONS
from optkit.errors import DataError, RecipeError
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks import squad_metrics
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.labelled import Input, JsonType
from optkit.tasks.squad_metrics import Line, Reference, checked_answers

if TYPE_CHECKING:
    import datasets
    import torch


#: Longest answer in tokens, and how many starts of a window are tried.
MAX_ANSWER = 30
BEST = 20
#: The key of config.json of models that may give no answer, and the offsets of the token that stands for it.
THRESHOLD, NOWHERE = "null_score_diff_threshold", -1
#: How a person reads that there is no answer.
NONE = "(no answer)"
#: What `_best` takes, in its order.
_OUTPUTS = ("start_logits", "end_logits", "offsets", "window", "characters")


@dataclass(frozen=True)
class Answer:
    """`text` is the context's `[start, end)` in characters; `score` the probability of its two ends.

    Where the context does not answer, `has_answer` is false and the text empty.
    """

    text: str
    start: int
    end: int
    score: float
    has_answer: bool = True

    @property
    def label(self) -> str:
        return self.text if self.has_answer else NONE


@dataclass
class QuestionAnswering(Task):
    """`metric` is f1 (shared words) or exact_match, both from 0 to 1.

    No answer is given where it exceeds the best one by more than `null_threshold`; None: always an answer.
    """

    name: ClassVar[str] = "question-answering"
    architectures: ClassVar[tuple[str, ...]] = ("ForQuestionAnswering", "ForQuestionAnsweringSimple")
    auto_class: ClassVar[str] = "AutoModelForQuestionAnswering"
    metrics: ClassVar = ("f1", "exact_match")
    columns: ClassVar = {"text": ("question",), "pair": ("context",), "label": ("answers",)}
    parts: ClassVar = {"text": "question", "pair": "context", "label": "answers"}
    takes: ClassVar[tuple[Field, ...]] = (Field("question"), Field("context"))
    metric: str
    encoder: TextEncoder
    null_threshold: float | None = None

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> QuestionAnswering:
        return cls(cls.checked_metric(metric), TextEncoder(artifact.path), artifact.config.get(THRESHOLD))

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
            spans = [np.array(w.offsets, dtype=np.int64)[c].reshape(-1, 2) for w, c in zip(windows, chosen)]
            if self.null_threshold is not None:
                chosen = [np.concatenate([[0], c]) for c in chosen]
                spans = [np.concatenate([[[NOWHERE, NOWHERE]], s]) for s in spans]
            owner += [example] * len(windows)
            picks += chosen
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
        hint = "" if self.null_threshold is not None else _NO_THRESHOLD
        references = [
            checked_answers(given, item[1], row, hint)
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
            none if self.null_threshold is not None and over > self.null_threshold else span
            for span, none, over in map(_best, *(outputs[name] for name in _OUTPUTS))
        ]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The answers' texts, in an object array."""
        return np.array([answer.text for answer in self.decode(outputs)], dtype=object)

    def score(self, answers: np.ndarray, references: Sequence[Reference]) -> float:
        return float(self.outcomes(answers, references).mean())

    def outcomes(self, answers: np.ndarray, references: Sequence[Reference]) -> np.ndarray:
        """The metric of each example: right or wrong, or the share of words in common."""
        return squad_metrics.outcomes(answers, references, self.metric, self.null_threshold is not None)

    @property
    def has_table(self) -> bool:
        return self.null_threshold is not None

    def table(self, answers: np.ndarray, references: Sequence[Reference]) -> list[Line]:
        """Each metric over the questions with an answer and without, where the model may give none."""
        return squad_metrics.table(answers, references) if self.has_table else []

    def doubts(self, model: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
        return squad_metrics.doubts(model, lines)

    def comparable(self, artifact: Artifact, outputs: Outputs) -> Outputs:
        """The logits of no answer are moved by how far the model's threshold lies from this task's."""
        stated = artifact.config.get(THRESHOLD, None if artifact.config else self.null_threshold)
        if stated is None and self.null_threshold is None:
            return outputs
        if stated is None or self.null_threshold is None:
            raise RecipeError(
                "Expected models that all may give no answer, or none of which may, received both kinds: "
                f"{THRESHOLD} is in config.json of some.",
                hint="Compare them in two runs.",
            )
        moved = self.null_threshold - stated
        return {
            **outputs,
            "start_logits": [
                np.where(spans.reshape(-1, 2)[:, 0] == NOWHERE, row + moved, row) if moved else row
                for row, spans in zip(outputs["start_logits"], outputs["offsets"])
            ],
        }

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"start_logits": ("batch", "sequence"), "end_logits": ("batch", "sequence")}

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        return {"question", "context", "answers"} <= set(rows.column_names)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """A threshold where some questions have no answer: run_qa.py's default, until `settled`."""
        column = cls.column(rows.column_names, "label", columns)
        lacking = [isinstance(x, Mapping) and x.get("text") == [] for x in rows[column]]
        if lacking and all(lacking):
            raise DataError(
                f"Expected questions with an answer among the {len(lacking)} of train, received none: there "
                "is no span to learn.",
                hint="Add such, or look whether the answers lie in another column (--label-column).",
            )
        return {THRESHOLD: 0.0 if any(lacking) else None}

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> QuestionAnswering:
        task = replace(cls.from_artifact(source), null_threshold=config[THRESHOLD])
        task.encoder.truncate(max_length)
        return task

    def network(self, source: Artifact, config: dict[str, Any], load: Callable[..., Any]) -> torch.nn.Module:
        network = load(self.auto_class)  # `save` writes the threshold that is chosen
        if hasattr(network.config, THRESHOLD):
            delattr(network.config, THRESHOLD)
        return network

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """Raises DataError for a validation split that no threshold can be chosen on."""
        lacking = sum(not reference["text"] for reference in labelled.references)
        if seed is None and self.null_threshold is not None and lacking in (0, len(labelled.references)):
            raise DataError(
                "Expected questions with an answer and without in validation, since train has both and the "
                f"threshold between them is chosen there, received {lacking} without an answer among "
                f"{len(labelled.references)}.",
                hint="Move some questions from train to validation, or leave those without an answer out.",
            )
        return labelled

    def settled(self, outputs: Outputs, references: Sequence[Reference]) -> QuestionAnswering:
        """With the threshold that is best for the metric on these examples."""
        has = {bool(reference["text"]) for reference in references if reference is not None}
        if self.null_threshold is None or len(has) < 2:
            return self
        spans = list(map(_best, *(outputs[name] for name in _OUTPUTS)))
        given, none = (
            self.outcomes(np.array(texts, dtype=object), references).astype(float)
            for texts in ([span.text for span, *_ in spans], [""] * len(spans))
        )
        over = np.array([over for *_, over in spans])
        return replace(self, null_threshold=squad_metrics.best_threshold(over, given, none))

    @property
    def settled_config(self) -> dict[str, Any]:
        return {} if self.null_threshold is None else {THRESHOLD: self.null_threshold}

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
            begin, end = NOWHERE, NOWHERE  # no token of the context is there
            if reference["text"]:
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
        return reference["text"][0] if reference["text"] else NONE


_NO_THRESHOLD = (
    "Questions without an answer (SQuAD 2.0) need a model that was trained with such: put some into the "
    f"training split too. One that was trained so elsewhere needs {THRESHOLD} in its config.json; 0 is the "
    "default of transformers' run_qa.py."
)


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
) -> tuple[Answer, Answer, float]:
    """The span of the largest start plus end logit, within one window and at most MAX_ANSWER tokens; no
    answer; and by how much the logits of that exceed the span's (-inf: the model always gives one)."""
    offsets = offsets.reshape(-1, 2)
    nowhere = offsets[:, 0] == NOWHERE
    nulls, context = (start + end)[nowhere], np.flatnonzero(~nowhere)
    null = float(nulls.min()) if len(nulls) else -np.inf
    if not len(context):  # an empty one
        return _NOTHING, replace(_NOTHING, score=1.0), np.inf
    best, first, last = -np.inf, 0, 0
    for number in np.unique(window):
        here = context[window[context] == number]
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
    all_ends = _log_sum(start) + _log_sum(end)
    span = Answer(text, a, a + len(text), float(np.exp(best - all_ends)), bool(text))
    return span, replace(_NOTHING, score=float(np.exp(null - all_ends))), null - best


#: Of an empty context, or no answer; a probability takes the place of the score.
_NOTHING = Answer("", 0, 0, 0.0, False)


def _log_sum(values: np.ndarray) -> float:
    values = values.astype(np.float64)
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum()))


TASK = QuestionAnswering
