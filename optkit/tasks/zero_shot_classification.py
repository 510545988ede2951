"""Zero-shot classification: a text and labels that nobody trained → how well each of them fits.

A model of natural-language inference reads the text with a hypothesis for each label ("This example is
sports."). Scores are those of transformers' ZeroShotClassificationPipeline: the softmax of the entailment
logits over the labels, or for each label by itself (`multi_label`) of entailment against contradiction.
Source: Yin, Hay and Roth 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len
from pydantic import Strict

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.columns import class_names, texts_of
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import PAIRS
from optkit.errors import CheckpointError, DataError
from optkit.models.text import TextEncoder
from optkit.tasks import text_classification
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.hypotheses import MOST, MULTI_COLUMN, TEMPLATE, TEMPLATE_COLUMN, checked, labels_in
from optkit.tasks.label_columns import REGRESSION, labels_and_problem, labels_of
from optkit.tasks.label_mapping import listed, places
from optkit.tasks.labelled import Answer, Input, JsonType, tabbed

if TYPE_CHECKING:
    import datasets


#: Asked of built-in texts.
_LABELS = ("news", "sports", "science")
_TRUE = {"true": True, "false": False}


@dataclass(frozen=True)
class Fitting:
    """A prediction: `labels` with their `scores`, the best first.

    `logits` (labels, 2), of contradiction and of entailment, are those that the scores come from, in the
    order in which the labels were given.
    """

    labels: list[str]
    scores: list[float]
    logits: np.ndarray
    multi_label: bool

    @classmethod
    def of(cls, labels: Sequence[str], logits: np.ndarray, multi_label: bool) -> Fitting:
        against, entailed = logits.astype(np.float64).T
        if multi_label or len(labels) == 1:
            scores = 0.5 * (1.0 + np.tanh(0.5 * (entailed - against)))  # the softmax of two
        else:
            scores = np.exp(entailed - entailed.max())
            scores /= scores.sum()
        order = np.argsort(scores)[::-1]
        return cls([labels[i] for i in order], scores[order].tolist(), logits, multi_label)

    @property
    def label(self) -> str:
        """The best."""
        return self.labels[0]

    @property
    def score(self) -> float:
        return self.scores[0]

    @property
    def chosen(self) -> tuple[str, ...]:
        """The best label; of labels that stand each by itself all above one half, in alphabetical order."""
        if not self.multi_label:
            return (self.label,)
        return tuple(sorted(label for label, score in zip(self.labels, self.scores) if score > 0.5))


@dataclass
class ZeroShotClassification(Task):
    """`count` labels of inference has the model, `entailment` and `contradiction` among them, by index."""

    name: ClassVar[str] = "zero-shot-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    asks_labels: ClassVar[bool] = True
    trained_by: ClassVar[str] = "--task text-classification"
    metrics: ClassVar = ("accuracy", "f1")
    columns: ClassVar = {
        "text": text_classification.COLUMNS["text"],
        "pair": ("candidate_labels", "candidates"),
        "label": text_classification.COLUMNS["label"],
    }
    parts: ClassVar = {"text": "text", "pair": "candidate labels", "label": "label"}
    takes: ClassVar[tuple[Field, ...]] = (
        Field("text"),
        Field("candidate_labels"),
        Field(TEMPLATE_COLUMN, required=False),
        Field(MULTI_COLUMN, required=False),
    )
    sameness: ClassVar[str] = "the same label or labels"
    metric: str
    encoder: TextEncoder
    count: int
    entailment: int
    contradiction: int

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        _inference_labels(config, architecture)

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> ZeroShotClassification:
        architecture = (artifact.config.get("architectures") or ["a model"])[0]
        known = _inference_labels(artifact.config, architecture)
        return cls(cls.checked_metric(metric), TextEncoder(artifact.path), *known)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """One row per label; of a pair that is too long the text is cut, never the hypothesis.

        Raises DataError for what is no text with 2 to `MOST` different labels, or 1 with multi_label.
        """
        given = [checked(item, i) for i, item in enumerate(inputs)]
        encoded = self.encoder.cut_first([pair for asked in given for pair in asked.pairs])
        if not given:
            return encoded
        told = [json.dumps([x.labels, x.multi_label], ensure_ascii=False) for x in given]
        characters = [np.array([ord(c) for c in text], dtype=np.int64) for text in told]
        counts = [len(x.labels) for x in given]
        return replace(encoded, windows=Windows.of_rows(counts, self.count, characters=characters))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Rows of a text and its label or labels; candidates are those of the row, else all labels of the
        rows."""
        names = rows.column_names
        text, label = (self.column(names, part, columns) for part in ("text", "label"))
        pair = columns.pair or next((n for n in self.columns["pair"] if n in names), None)
        if pair is not None:
            self.column(names, "pair", replace(columns, pair=pair))
            candidates = [labels_in(value, row) for row, value in enumerate(rows[pair])]
        else:
            candidates = [_labels_among(rows, label)] * len(rows)
        references = _references(rows, label, candidates, own=pair is None)
        several = any(isinstance(value, list) for value in rows[label])
        templates, flags = (
            list(rows[name]) if name in names else [default] * len(rows)
            for name, default in ((TEMPLATE_COLUMN, TEMPLATE), (MULTI_COLUMN, several))
        )
        inputs = [
            (item, labels, template or TEMPLATE, flag or False)
            for item, labels, template, flag in zip(texts_of(rows, text), candidates, templates, flags)
        ]
        return Labelled(
            self.encode(inputs),
            references,
            [x[0] for x in inputs],
            inputs,
            columns=Columns(text, pair, label),
        )

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str:
        """Raises DataError where there is none: without labels there is nothing to choose from."""
        return cls.column(names, "pair")

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        """Text and candidate labels, and of the columns that change how they are asked those there are."""
        more = [name for name in (TEMPLATE_COLUMN, MULTI_COLUMN) if name in names]
        return (*super().input_columns(names, wanted), *more)

    @classmethod
    def from_columns(cls, row: Mapping[str, Any], names: Sequence[str]) -> Input:
        """Of a table, whose rows have all columns, what is null is not asked."""
        return tuple(row[name] for i, name in enumerate(names) if i < 2 or row[name] is not None)

    @classmethod
    def from_line(cls, line: str) -> Input:
        """A text and its candidate labels, with a tab before each."""
        return tabbed(line, "text", "labels")

    def decode(self, outputs: Outputs) -> list[Fitting]:
        """One `Fitting` per text."""
        answers = []
        for logits, characters in zip(outputs["logits"], outputs["characters"]):
            labels, multi_label = json.loads("".join(map(chr, characters.tolist())))
            each = np.reshape(logits, (len(labels), self.count))
            answers.append(Fitting.of(labels, each[:, [self.contradiction, self.entailment]], multi_label))
        return answers

    def answers(self, outputs: Outputs) -> np.ndarray:
        """`Fitting.chosen` of each text, in an object array."""
        return _objects([answer.chosen for answer in self.decode(outputs)])

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        """The share of texts whose chosen labels are the right ones, or the mean F1 over all labels."""
        if self.metric == "accuracy":
            return float(self._right(answers, references).mean())
        from sklearn.metrics import f1_score
        from sklearn.preprocessing import MultiLabelBinarizer

        flags = MultiLabelBinarizer().fit([*references, *answers])
        both = (flags.transform(list(x)) for x in (references, answers))
        return float(f1_score(*both, average="macro", zero_division=0))

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray | None:
        return self._right(answers, references) if self.metric == "accuracy" else None

    @staticmethod
    def _right(answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray:
        return np.array([set(a) == set(r) for a, r in zip(answers, references, strict=True)], dtype=bool)

    def probes(self, texts: Sequence[str]) -> list[Input]:
        return [(text, list(_LABELS)) for text in texts]

    def samples(self) -> Sequence[Input]:
        return self.probes([str(text) for text in super().samples()])

    def provoking(self) -> list[list[Input]]:
        """Pairs as they are: the template is the label alone."""
        return [[(text, [label], "{}", True) for text, label in PAIRS]]

    def pieces(self, item: Input) -> list[Input]:
        asked = checked(item, 0)
        return [replace(asked, labels=(label,)) for label in asked.labels]

    def joined(self, answers: Sequence[Fitting]) -> Fitting:
        logits = np.concatenate([answer.logits for answer in answers])
        return Fitting.of([answer.label for answer in answers], logits, answers[0].multi_label)

    def json_type(self, text: JsonType) -> JsonType:
        return {
            "text": text,
            "candidate_labels": Annotated[list[text], Len(1, MOST)] | text,
            TEMPLATE_COLUMN: text,
            MULTI_COLUMN: Annotated[bool, Strict()],
        }

    def to_json(self, item: Input) -> Json:
        asked = checked(item, 0)
        values = (asked.text, list(asked.labels), asked.template, asked.multi_label)
        return dict(zip((x.name for x in self.takes), values))

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The labels are a JSON list, or one text with commas between them; multi_label is true or false."""
        text, labels, template, multi_label = (*values, None, None)[:4]
        try:
            labels = json.loads(labels) if str(labels).lstrip().startswith("[") else labels
        except ValueError:
            raise DataError(
                "Expected in candidate_labels a JSON list of texts, or labels with commas."
            ) from None
        flag = _TRUE.get(str(multi_label).lower(), multi_label)
        return {"text": text, "candidate_labels": labels, TEMPLATE_COLUMN: template, MULTI_COLUMN: flag}

    def describe(self, answer: Fitting) -> dict[str, Any]:
        """As transformers' pipeline: the labels and their scores, the best first."""
        return {"labels": list(answer.labels), "scores": list(answer.scores)}

    def gives(self) -> tuple[Field, ...]:
        """How many labels there are varies, so all of them are one JSON object."""
        return Field("label"), Field("score", "FP32"), Field("scores")

    def fields(self, answer: Fitting) -> tuple[Any, ...]:
        scores = json.dumps(dict(zip(answer.labels, answer.scores)), ensure_ascii=False)
        return answer.label, answer.score, scores

    def alike(self, answer: Fitting, other: Fitting) -> float:
        """1 for the same label or labels; for one label alone, for the same side of one half."""
        if len(answer.labels) == 1:
            return float((answer.score > 0.5) == (other.score > 0.5))
        return float(answer.chosen == other.chosen)

    def line(self, answer: Fitting) -> str:
        """Each label and its score, the best first."""
        return "\t".join(f"{label}:{score:.4f}" for label, score in zip(answer.labels, answer.scores))

    def name_of(self, reference: Answer) -> Json:
        return reference[0] if len(reference) == 1 else list(reference)


def _inference_labels(config: Mapping[str, Any], architecture: str) -> tuple[int, int, int]:
    """How many labels, the place of entailment, and of what it is weighed against, as the pipeline has it.

    Raises CheckpointError where no label, or another one by label2id than by id2label, is entailment.
    """
    labels = labels_of(dict(config))
    stated = config.get("label2id") or {label: i for i, label in enumerate(labels)}
    found = next((place for label, place in stated.items() if str(label).lower().startswith("entail")), None)
    if len(labels) < 2 or found is None:
        raise CheckpointError(
            f"Expected a model of natural-language inference, one of whose labels is entailment, received "
            f"{architecture} with the labels {listed(labels) or 'of no name'}.",
            hint="Take one that was trained on such data (MNLI, XNLI), with its labels in id2label and "
            "label2id of config.json; other classifiers are for --task text-classification.",
        )
    if not isinstance(found, int) or not 0 <= found < len(labels) or not _entails(labels[found]):
        raise CheckpointError(
            f"config.json disagrees with itself: label2id has entailment at {found}, id2label has "
            f"{listed(labels)}.",
            hint="Correct the one that is wrong: transformers reads label2id here.",
        )
    return len(labels), found, len(labels) - 1 if found == 0 else 0


def _entails(label: str) -> bool:
    return str(label).lower().startswith("entail")


def _labels_among(rows: datasets.Dataset, name: str) -> list[str]:
    """All labels of column `name`, by their names. Raises DataError where they say nothing."""
    pairs = ("hypothesis", "sentence2", "text_pair")
    if second := next((n for n in pairs if n in rows.column_names), None):
        raise DataError(
            f"Expected texts with labels to choose from, received pairs (column {second!r}).",
            hint="Pairs with entailment as a label are for --task text-classification; name the column of "
            "candidate labels with --pair-column.",
        )
    labels, problem = labels_and_problem(rows, name)
    if problem == REGRESSION or all(label.lstrip("-").isdigit() for label in labels):
        raise DataError(
            f"Expected labels by name in column {name!r}, received numbers, which say nothing of a text.",
            hint='Name them in a file labels.json beside the data: {"label": ["name of 0", "name of 1"]}.',
        )
    return labels


def _references(
    rows: datasets.Dataset, name: str, candidates: Sequence[list[str]], own: bool
) -> list[list[str]]:
    """The right labels of each row. Raises DataError for one that is no candidate."""
    names = class_names(rows.features.get(name))
    values = [value if isinstance(value, list) else [value] for value in rows[name]]
    if own:
        flat = [(row, value) for row, several in enumerate(values) for value in several]
        indices = iter(places(flat, candidates[0], names, by_name=True) if flat else [])
        return [[candidates[0][next(indices)] for _ in several] for several in values]
    if names:  # numbers stand for names
        values = [[names[v] if type(v) is int and 0 <= v < len(names) else v for v in x] for x in values]
    return [
        [labels[i] for i in places([(row, v) for v in several], labels)]
        for row, (several, labels) in enumerate(zip(values, candidates))
    ]


def _objects(values: Sequence[object]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


TASK = ZeroShotClassification
