"""Multiple choice: a question, or a text and a question, and choices → the right one.

The model (transformers' ...ForMultipleChoice) reads each choice by itself and gives it one logit; the softmax
over those of a question is their probabilities. So a question may have any number of choices, and each of
them is a row of its own here: `EncodedSet.windows` brings them together again. A context is read before
"question choice", as transformers' run_swag.py does it; without one the question is read before the choice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import PAIRS, questions_of_two
from optkit.errors import DataError
from optkit.models.adapted import with_forward
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.tasks.base import BETWEEN, Columns, Field, Labelled, Outputs, Task
from optkit.tasks.choices import CONTEXT, EACH, choices_in, parts_of, place_of
from optkit.tasks.labelled import Answer, Input, JsonType, tabbed

if TYPE_CHECKING:
    import datasets
    import torch


#: The most choices of one question.
MOST = 1000
_HINT = 'Write ("question", ["choice", ...]) or {"question": ..., "choices": [...], "context": ...}.'


@dataclass(frozen=True)
class Asked:
    """What the model reads: `first` with each of `seconds`, which hold a choice each."""

    first: str
    seconds: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """A prediction: the place of the right choice as `label`, its probability, and those of all choices.

    `logits` are the model's own, one for each choice in the order given.
    """

    label: int
    score: float
    scores: list[float]
    logits: list[float]

    @classmethod
    def of(cls, logits: np.ndarray) -> Choice:
        values = np.ravel(logits).astype(np.float64)
        scores = np.exp(values - values.max())
        scores /= scores.sum()
        best = int(values.argmax())
        return cls(best, float(scores[best]), scores.tolist(), values.tolist())


@dataclass
class MultipleChoice(Task):
    """`metric` is accuracy, the share of questions whose right choice has the largest logit."""

    name: ClassVar[str] = "multiple-choice"
    architectures: ClassVar[tuple[str, ...]] = ("ForMultipleChoice",)
    auto_class: ClassVar[str] = "AutoModelForMultipleChoice"
    metrics: ClassVar = ("accuracy",)
    columns: ClassVar = {
        "text": ("question", "sent2", "question_stem", "ctx", "goal"),
        "pair": ("choices", "options", "endings"),
        "label": ("label", "answerKey", "answer", "labels"),
    }
    parts: ClassVar = {"text": "question", "pair": "choices", "label": "answer"}
    takes: ClassVar[tuple[Field, ...]] = (
        Field("question"),
        Field("choices"),
        Field("context", required=False),
    )
    trained_with: ClassVar[tuple[str, ...]] = ("choices",)
    sameness: ClassVar[str] = "the same choice"
    metric: str
    encoder: TextEncoder

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> MultipleChoice:
        return cls(cls.checked_metric(metric), TextEncoder(artifact.path))

    @classmethod
    def adapted(cls, model: torch.nn.Module) -> torch.nn.Module:
        """A row is a question with one choice: (rows, tokens) → one logit each, (rows, 1)."""
        plain = type(model)

        def forward(self: torch.nn.Module, **inputs: Any) -> Any:
            rows = {n: v[:, None] if n in _TENSORS else v for n, v in inputs.items()}
            return plain.forward(self, **rows)

        return with_forward(model, forward)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", 1)}

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """One row per choice, cut as transformers cuts pairs: the longer text loses tokens first.

        Raises DataError for what is no question with 2 to `MOST` choices.
        """
        given = [_checked(item, i) for i, item in enumerate(inputs)]
        encoded = self.encoder.encode([(x.first, second) for x in given for second in x.seconds])
        if not given:
            return encoded
        counts = [len(x.seconds) for x in given]
        choices = [np.array([count]) for count in counts]
        return replace(encoded, windows=Windows.of_rows(counts, 1, choices=choices))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        names = self.input_columns(rows.column_names, columns)
        question, choices, context = parts_of(names)
        label = self.column([n for n in rows.column_names if n not in names], "label", columns)
        texts_of(rows, question)
        read = rows.select_columns(list(names))
        inputs: list[Input] = []
        references, sources = [], []
        for i, (row, value) in enumerate(zip(read, rows[label])):
            texts, labels = choices_in(row, choices, i)
            before = [row[context]] if context and row[context] else []
            asked = _checked((*before, row[question], texts), i)
            inputs.append((asked.first, list(asked.seconds)))
            references.append(place_of(value, texts, labels, i))
            sources.append(BETWEEN.join((*before, row[question])))
        return Labelled(
            self.encode(inputs), references, sources, inputs, columns=Columns(question, choices[0], label)
        )

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        """Question, choices (a list, or a column each), and the context where there is one."""
        question = cls.column(names, "text", wanted)
        each = sorted(name for name in names if EACH.fullmatch(name))
        kinds = {match[1] for name in each if (match := EACH.fullmatch(name))}
        context = tuple(name for name in CONTEXT if name in names and name != question)[:1]
        if wanted.pair is None and len(each) > 1 and len(kinds) == 1:
            return (question, *each, *context)
        return (question, cls.column([n for n in names if n != question], "pair", wanted), *context)

    @classmethod
    def from_columns(cls, row: Mapping[str, Any], names: Sequence[str]) -> Input:
        question, choices, context = parts_of(names)
        asked = row[question], choices_in(row, choices, 0)[0]
        return asked if context is None or not row[context] else (row[context], *asked)

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A question and its choices, with a tab before each."""
        return tabbed(line, "question", "choices")

    def decode(self, outputs: Outputs) -> list[Choice]:
        return [Choice.of(logits) for logits in outputs["logits"]]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The place of the largest logit of each question, (questions,)."""
        return np.array([int(np.argmax(logits)) for logits in outputs["logits"]], dtype=np.int64)

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        return float(self.outcomes(answers, references).mean())

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray:
        return np.asarray(answers) == np.asarray(references)

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """A question, and two texts that may answer it."""
        return list(questions_of_two(texts))

    def samples(self) -> Sequence[Input]:
        return self.probes([str(text) for text in super().samples()])

    def provoking(self) -> list[list[Input]]:
        return [[(first, [second, first]) for first, second in PAIRS]]

    def pieces(self, item: Input) -> list[Input]:
        asked = _checked(item, 0)
        return [replace(asked, seconds=(second,)) for second in asked.seconds]

    def joined(self, answers: Sequence[Choice]) -> Choice:
        return Choice.of(np.concatenate([answer.logits for answer in answers]))

    def json_type(self, text: JsonType) -> JsonType:
        return {"question": text, "choices": Annotated[list[text], Len(2, MOST)], "context": text}

    def to_json(self, item: Input) -> Json:
        asked = _checked(item, 0)
        return {"question": asked.first, "choices": list(asked.seconds)}

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The choices are a JSON list: a tensor has one element for each question."""
        question, choices, context = (*values, None)[:3]
        try:
            return {"question": question, "choices": json.loads(choices), "context": context}
        except ValueError:
            raise DataError("Expected in choices a JSON list of texts for each question.") from None

    def gives(self) -> tuple[Field, ...]:
        """How many choices a question has varies, so their probabilities are one JSON list."""
        return Field("label", "INT32"), Field("score", "FP32"), Field("scores")

    def fields(self, answer: Choice) -> tuple[Any, ...]:
        return answer.label, answer.score, json.dumps(answer.scores)

    def describe(self, answer: Choice) -> dict[str, Any]:
        return asdict(answer)

    def alike(self, answer: Choice, other: Choice) -> float:
        """1 for the same choice; for one choice alone, for nearly the same logit."""
        if len(answer.logits) == 1:
            return float(np.isclose(answer.logits[0], other.logits[0], rtol=0.05, atol=0.05))
        return float(answer.label == other.label)

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Whether there are questions with choices, and the right ones."""
        try:
            names = cls.input_columns(rows.column_names, columns)
            cls.column([n for n in rows.column_names if n not in names], "label", columns)
        except DataError:
            return False
        return True

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> MultipleChoice:
        task = cls.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """One row per question, its choices padded to the longest: (choices, tokens)."""
        encoded, windows = labelled.encoded, labelled.encoded.windows
        assert windows is not None
        ends = np.searchsorted(windows.owner, np.arange(len(labelled.references) + 1)).tolist()
        each = [encoded.batch(range(a, b)) for a, b in pairwise(ends)]
        arrays = {name: [one[name] for one in each] for name in encoded.arrays}
        return replace(labelled, encoded=EncodedSet(arrays, encoded.pad, encoded.truncated))

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        return {"labels": [np.array(reference, dtype=np.int64) for reference in labelled.references]}

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """As DataCollatorForMultipleChoice of transformers, (questions, choices, tokens), with the number of
        `choices` of each question; those that fill it up are its first again."""
        batch = super().collate(encoded, targets, indices)
        counts = encoded.lengths[list(indices)]
        for i, count in enumerate(counts):
            for name in encoded.arrays:
                batch[name][i, count:] = batch[name][i, 0]
        return {**batch, "choices": counts}

    def network(self, source: Artifact, config: dict[str, Any], load: Callable[..., Any]) -> torch.nn.Module:
        """The cross-entropy is that of each question's own choices."""
        import torch

        network = load(self.auto_class)
        plain = type(network)

        def forward(
            self: torch.nn.Module,
            labels: torch.Tensor | None = None,
            choices: torch.Tensor | None = None,
            **inputs: Any,
        ) -> Any:
            answer = plain.forward(self, **inputs)
            if choices is not None:
                places = torch.arange(answer.logits.shape[1], device=choices.device)
                lowest = torch.finfo(answer.logits.dtype).min
                answer["logits"] = answer.logits.masked_fill(places >= choices[:, None], lowest)
            if labels is not None:
                answer["loss"] = torch.nn.functional.cross_entropy(answer.logits, labels)
            return answer

        return with_forward(network, forward)

    def reduced_outputs(self, network: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "choices")}


#: What has a row for each choice among a model's arguments.
_TENSORS = ("input_ids", "attention_mask", "token_type_ids")


def _checked(item: Input, position: int) -> Asked:
    """What is asked at `position`. Raises DataError."""
    if isinstance(item, Asked):
        return item
    if isinstance(item, Mapping):
        parts = (item.get("context"), item.get("question"), item.get("choices"))
        item = parts[1:] if parts[0] is None else parts
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise DataError(
            f"Expected a question with its choices at position {position}, received {type(item).__name__}.",
            hint=_HINT,
        )
    *texts, choices = item
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"Expected texts before the choices at position {position}.", hint=_HINT)
    if not isinstance(choices, (tuple, list)) or not all(isinstance(text, str) for text in choices):
        raise DataError(f"Expected a list of texts as the choices at position {position}.", hint=_HINT)
    if not 2 <= len(choices) <= MOST:
        raise DataError(
            f"Expected 2 to {MOST:,} choices at position {position}, received {len(choices):,}.",
            hint="Leave a question without a choice out; of many give those that a first search finds best.",
        )
    first, *question = texts
    return Asked(first, tuple(" ".join([*question, choice]) for choice in choices))


TASK = MultipleChoice
