"""What tasks have in common whose labels come with each input: candidates, the data's labels, the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.reading import Json
from optkit.data.columns import class_names, texts_of
from optkit.errors import DataError
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.hypotheses import MULTI_COLUMN, TEMPLATE, TEMPLATE_COLUMN, labels_in
from optkit.tasks.label_columns import REGRESSION, labels_and_problem
from optkit.tasks.label_mapping import places
from optkit.tasks.labelled import Answer, Input, tabbed

if TYPE_CHECKING:
    import datasets


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


class CandidateLabels(Task):
    """A task whose answer is a `Fitting`; what is asked is `optkit.tasks.hypotheses.Asked`."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
    parts: ClassVar[Mapping[str, str]] = {"text": "text", "pair": "candidate labels", "label": "label"}
    sameness: ClassVar[str] = "the same label or labels"
    #: The hypothesis unless another is given.
    template: ClassVar[str] = TEMPLATE

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Rows of a text, or an image, and its label or labels; candidates are those of the row, else all
        labels of the rows."""
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
            for name, default in ((TEMPLATE_COLUMN, self.template), (MULTI_COLUMN, several))
        )
        inputs = [
            (item, labels, template or self.template, flag or False)
            for item, labels, template, flag in zip(self.items_of(rows, text), candidates, templates, flags)
        ]
        return Labelled(
            self.encode(inputs),
            references,
            self.sources_of([x[0] for x in inputs]),
            inputs,
            columns=Columns(text, pair, label),
        )

    def items_of(self, rows: datasets.Dataset, name: str) -> list[Input]:
        """What is classified, from column `name`."""
        return list(texts_of(rows, name))

    def sources_of(self, items: Sequence[Input]) -> list[str]:
        """How a report calls each of these."""
        return list(items)

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
        """A text, or the path of an image, and its candidate labels, with a tab before each."""
        return tabbed(line, cls.parts["text"], "labels")

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
