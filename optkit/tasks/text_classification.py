"""Text classification: one text or a pair → one label, several labels, or a number.

Which of the three follows from config.json: `problem_type` where it is stated, else one output
means regression and several mean a single label (as transformers itself decides).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.columns import class_names, texts_of
from optkit.data.examples import EncodedSet
from optkit.data.provoking import LONG, PAIRS, TEXTS
from optkit.errors import CheckpointError, DataError, RecipeError, did_you_mean
from optkit.models.sentence_folder import Scoring, read_scoring
from optkit.models.text import TextEncoder
from optkit.tasks.base import BETWEEN, Columns, Field, Labelled, Outputs, Task
from optkit.tasks.label_columns import (
    MULTI,
    REGRESSION,
    SINGLE,
    are_flags,
    labels_and_problem,
    labels_config,
    labels_of,
)
from optkit.tasks.label_mapping import number, places
from optkit.tasks.label_scores import Line, scores, single
from optkit.tasks.labelled import Answer, Input, JsonType

if TYPE_CHECKING:
    import datasets


#: Column names looked for, in this order.
COLUMNS = {
    "text": ("text", "sentence", "sentence1", "premise", "question", "review", "content", "utterance"),
    "pair": ("text_pair", "sentence2", "hypothesis", "text2", "answer"),
    "label": ("label", "labels", "intent", "sentiment", "score", "category", "class", "target"),
}


#: Parts of labels that only models of pairs have.
OF_PAIRS = ("entail", "contradict", "duplicate", "paraphrase", "equivalent", "similar", "relevan")


@dataclass(frozen=True)
class Classification:
    """A prediction: the best `label` (a list for multi-label, None for regression), its `score`,
    and `scores`: label → probability; for regression `score` is the value itself."""

    label: str | list[str] | None
    score: float
    scores: dict[str, float]


@dataclass
class TextClassification(Task):
    """`labels` by index, `problem` as transformers calls it, `metric` one of those it allows.

    With `own_labels` they were taken from the data that is read: its numbers are their names.
    `activation` is that of a cross-encoder of sentence-transformers (None: it is none). With one label that
    is a reranker: the score of a pair is the activation of its logit, as `CrossEncoder.predict` gives it.
    """

    name: ClassVar[str] = "text-classification"
    architectures: ClassVar[tuple[str, ...]] = ("ForSequenceClassification",)
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    graph_answers: ClassVar[bool] = True
    sentence_transformers: ClassVar[str] = "CrossEncoder"
    asked_last: ClassVar[bool] = True  # any table with a text and a label fits it
    metrics_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        SINGLE: ("accuracy", "f1", "matthews"),
        MULTI: ("f1", "accuracy"),
        REGRESSION: ("spearman", "pearson"),
    }
    columns: ClassVar = COLUMNS
    takes: ClassVar[tuple[Field, ...]] = (Field("text"), Field("text_pair", required=False))
    labels: list[str]
    problem: str
    metric: str
    encoder: TextEncoder
    own_labels: bool = False
    activation: str | None = None

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        config = artifact.config
        # transformers' own default is two labels
        labels = labels_of(config) or [f"LABEL_{i}" for i in range(int(config.get("num_labels") or 2))]
        problem = config.get("problem_type") or (REGRESSION if len(labels) == 1 else SINGLE)
        scoring = read_scoring(artifact.path)
        if scoring is not None and len(labels) == 1:
            problem = REGRESSION
        if problem not in cls.metrics_of:
            raise CheckpointError(
                f"Expected problem_type to be one of {', '.join(cls.metrics_of)}, received {problem!r}."
            )
        if problem == REGRESSION and len(labels) > 1:
            raise CheckpointError(
                f"Expected one output for problem_type regression, received {len(labels)}: several numbers "
                "per text are none of the tasks here.",
                hint="Where the outputs are classes, write single_label_classification or "
                "multi_label_classification as problem_type into config.json.",
            )
        allowed = cls.metrics_of[problem]
        if metric is not None and metric not in allowed:
            raise RecipeError(
                f"Metric {metric!r} does not fit {problem}.", hint=did_you_mean(metric, allowed)
            )
        encoder = cls.open_encoder(artifact.path, scoring)
        return cls(
            labels, problem, metric or allowed[0], encoder, activation=scoring.activation if scoring else None
        )

    @property
    def reference(self) -> str:
        return self.name if self.activation is None else "cross-encoder"

    @staticmethod
    def open_encoder(folder: Path, scoring: Scoring | None = None) -> TextEncoder:
        """What turns inputs into tensors, from the artifact's folder; as a cross-encoder's settings say."""
        encoder = TextEncoder(folder, scoring.max_length if scoring else None)
        if scoring and scoring.lowercase:
            encoder.lower_case()
        return encoder

    @classmethod
    def default_metric(cls, problem: str) -> str:
        """The metric of `problem` (as transformers calls it) unless another one is asked for."""
        return cls.metrics_of[problem][0]

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        for i, item in enumerate(inputs):
            pair = isinstance(item, (tuple, list)) and len(item) == 2
            if not (isinstance(item, str) or (pair and all(isinstance(x, str) for x in item))):
                raise DataError(
                    f"Expected a text or a pair of texts at position {i}, received {type(item).__name__}."
                )
        return self.encoder.encode([x if isinstance(x, str) else (x[0], x[1]) for x in inputs])

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        text, *others = self.input_columns(rows.column_names, columns)
        pair = others[0] if others else None
        label = self.column(rows.column_names, "label", columns)
        first = texts_of(rows, text)
        inputs: list[Input] = list(zip(first, texts_of(rows, pair))) if pair else first
        references = self.references(rows, label)
        sources = [x if isinstance(x, str) else BETWEEN.join(x) for x in inputs]
        return Labelled(self.encode(inputs), references, sources, inputs, columns=Columns(text, pair, label))

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str | None:
        return next((name for name in cls.columns["pair"] if name in names and name != text), None)

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A text, or the two of a pair with one tab between them."""
        parts = line.split("\t")
        return tuple(parts) if len(parts) == 2 and all(part.strip() for part in parts) else line

    def references(self, rows: datasets.Dataset, name: str) -> list[Any]:
        """The labels in column `name` as indices, 0/1 flags, or values. DataError names the row."""
        values, names = list(rows[name]), class_names(rows.features.get(name))
        if self.problem == REGRESSION:
            return [_number(value, row) for row, value in enumerate(values)]
        if self.problem == SINGLE:
            return places(enumerate(values), self.labels, names, self.own_labels)
        for row, value in enumerate(values):
            if not isinstance(value, (list, tuple)):
                raise DataError(
                    f"Expected a list of labels in row {row} (the model is multi-label), received {value!r}."
                )
        if not names and are_flags(values, name, self.labels):
            return [[int(v) for v in value] for value in values]
        flat = [(row, v) for row, value in enumerate(values) for v in value]
        wanted: list[list[int]] = [[0] * len(self.labels) for _ in values]
        for (row, _), index in zip(flat, places(flat, self.labels, names, self.own_labels)):
            wanted[row][index] = 1
        return wanted

    def decode(self, outputs: Outputs) -> list[Classification]:
        logits = np.stack(list(outputs["logits"])).astype(np.float64)
        if self.problem == REGRESSION:
            values = activated(logits[:, 0], self.activation).tolist()
            return [Classification(None, value, {self.labels[0]: value}) for value in values]
        if self.problem == MULTI:
            return [self._several(row) for row in 1.0 / (1.0 + np.exp(-logits))]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return [self._single(row) for row in shifted / shifted.sum(axis=1, keepdims=True)]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """Label indices (examples,), 0/1 flags (examples, labels), or values (examples,)."""
        logits = np.stack(list(outputs["logits"]))
        if self.problem == REGRESSION:
            return activated(logits[:, 0].astype(np.float64), self.activation)
        return (logits > 0).astype(np.int64) if self.problem == MULTI else logits.argmax(axis=1)

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        truth = np.asarray(references)
        if self.metric == "accuracy":
            same = answers == truth
            return float(same.reshape(len(same), -1).all(axis=1).mean())
        if self.metric in ("spearman", "pearson"):
            return _correlation(answers, truth, ranked=self.metric == "spearman")
        from sklearn import metrics

        if self.metric == "matthews":
            return float(metrics.matthews_corrcoef(truth, answers))
        average = "micro" if self.problem == MULTI else "binary" if len(self.labels) == 2 else "macro"
        return float(metrics.f1_score(truth, answers, average=average, zero_division=0))

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray | None:
        if self.metric != "accuracy":
            return None
        same = answers == np.asarray(references)
        return same.reshape(len(same), -1).all(axis=1)

    def name_of(self, reference: Answer) -> Json:
        if self.problem == SINGLE:
            return self.labels[reference]
        if self.problem == MULTI:
            return [label for label, flag in zip(self.labels, reference) if flag]
        return reference

    @property
    def has_table(self) -> bool:
        return self.problem != REGRESSION

    def table(self, answers: np.ndarray, references: Sequence[Answer]) -> list[Line]:
        """Precision, recall, F1 and support per label, and their averages; [] where answers are numbers."""
        if self.problem == REGRESSION or answers.dtype.kind == "f":
            return []
        if self.problem == SINGLE:
            given, there = ([self.labels[i] for i in side] for side in (answers, references))
            return single(given, there, order=self.labels)
        flags = (answers * np.asarray(references), answers, np.asarray(references))
        right, predicted, support = (dict(zip(self.labels, x.sum(axis=0).tolist())) for x in flags)
        return scores(right, predicted, support, self.labels)

    @property
    def sameness(self) -> str:  # type: ignore[override]
        return "the same number within 0.01 or 1%" if self.problem == REGRESSION else "the same label"

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        """Every number of a regression within 0.01 or 1%; else the same label or labels."""
        if self.problem != REGRESSION:
            return super().same(outputs, others)
        return np.isclose(self.answers(outputs), self.answers(others), rtol=1e-2, atol=1e-2)

    def probes(self, texts: Sequence[str]) -> list[Any]:
        """Pairs for a cross-encoder; every second one where the labels say that the model judges pairs."""
        others = [*texts[1:], *texts[:1]]
        if self.activation is not None:
            return list(zip(texts, others))
        if not any(word in label.lower() for label in self.labels for word in OF_PAIRS):
            return list(texts)
        return [(a, b) if i % 2 else a for i, (a, b) in enumerate(zip(texts, others))]

    def provoking(self) -> list[list[Any]]:
        return [[*TEXTS, LONG], list(PAIRS)]

    @property
    def class_names(self) -> list[str]:
        return self.labels if self.problem == SINGLE else []

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        if self.problem == REGRESSION:
            return float(np.isclose(answers, others, rtol=1e-2, atol=1e-2).mean())
        return super().agreement(answers, others)

    def json_type(self, text: JsonType) -> JsonType:
        """A text, or a pair of them."""
        return text | tuple[text, text]

    def gives(self) -> tuple[Field, ...]:
        return Field("label"), Field("score", "FP32"), Field("scores", "FP32", (len(self.labels),))

    def fields(self, answer: Classification) -> tuple[Any, ...]:
        """The label as text: of several, a JSON list, which a number leaves empty."""
        label = answer.label if isinstance(answer.label, str) else json.dumps(answer.label or [])
        return label, answer.score, list(answer.scores.values())

    def describe(self, answer: Classification) -> dict[str, Any]:
        return dict(vars(answer))  # all of it is JSON already; asdict would copy it part by part

    def alike(self, answer: Classification, other: Classification) -> float:
        """1 for the same label or labels, or nearly the same number."""
        if self.problem == REGRESSION:
            return float(np.isclose(answer.score, other.score, rtol=1e-2, atol=1e-2))
        return float(answer.label == other.label)

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Whether there is a label; what is read for it, `training_config` says."""
        return columns.label is not None or any(n in rows.column_names for n in cls.columns["label"])

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        labels, problem = labels_and_problem(rows, cls.column(rows.column_names, "label", columns))
        return {**labels_config(labels), "problem_type": problem}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Self:
        encoder = cls.open_encoder(source.path)
        encoder.truncate(max_length)
        problem, labels = config["problem_type"], list(config["id2label"].values())
        return cls(labels, problem, cls.default_metric(problem), encoder, own_labels=True)

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        dtype = np.int64 if self.problem == SINGLE else np.float32
        return {"labels": [np.array(reference, dtype=dtype) for reference in labelled.references]}

    def class_counts(self, labelled: Labelled) -> np.ndarray | None:
        if self.problem != SINGLE:
            return None
        return np.bincount(np.array(labelled.references, dtype=np.int64), minlength=len(self.labels))

    def _single(self, row: np.ndarray) -> Classification:
        best = int(row.argmax())
        return Classification(self.labels[best], float(row[best]), dict(zip(self.labels, row.tolist())))

    def _several(self, row: np.ndarray) -> Classification:
        chosen = [label for label, p in zip(self.labels, row) if p > 0.5]
        return Classification(chosen, float(row.max()), dict(zip(self.labels, row.tolist())))


def _number(value: object, row: int) -> float:
    if (exact := number(value)) is None:
        raise DataError(f"Expected a number as the label of row {row}, received {value!r}.")
    return exact


def activated(values: np.ndarray, name: str | None) -> np.ndarray:
    """torch.nn's activation function `name`, one of `sentence_folder.SCORING`, of `values` (None: they)."""
    return values if name is None else _ACTIVATED[name](values)


#: Between a reranker's logit and its score.
_ACTIVATED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),  # never overflows
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0.0),
}


def _correlation(a: np.ndarray, b: np.ndarray, ranked: bool) -> float:
    """Pearson's r, or Spearman's rho with average ranks for ties (scipy, which scikit-learn brings)."""
    from scipy import stats

    result = stats.spearmanr(a, b) if ranked else stats.pearsonr(a, b)
    return float(result.statistic)


TASK = TextClassification
