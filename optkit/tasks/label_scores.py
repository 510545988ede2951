"""Precision, recall, F1 and support per label with averages, as scikit-learn's classification_report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The averages, below the labels.
AVERAGES = ("micro", "macro", "weighted")


@dataclass(frozen=True)
class Line:
    """One line of the table; shares from 0 to 1, `support` counts what is really there."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


def scores(
    right: Mapping[str, int],
    predicted: Mapping[str, int],
    support: Mapping[str, int],
    order: Sequence[str] | None = None,
) -> list[Line]:
    """A line per label that is there or was predicted, in `order` (None: sorted), then the averages.

    `right` counts what was predicted where it is there. The micro average of a single label per example is
    the accuracy.
    """
    seen = {label for counts in (predicted, support) for label, count in counts.items() if count}
    lines = [
        _line(label, right.get(label, 0), predicted.get(label, 0), support.get(label, 0))
        for label in (sorted(seen) if order is None else [label for label in order if label in seen])
    ]
    totals = [sum(counts.get(label, 0) for label in seen) for counts in (right, predicted, support)]
    return [*lines, _line("micro", *totals), *_means(lines)]


def single(
    answers: Sequence[str], references: Sequence[str], outside: str = "", order: Sequence[str] | None = None
) -> list[Line]:
    """The same of one label for each example or word.

    `outside` is no line of its own and counts in no average: O, where tags are of entities.
    """
    right = Counter(a for a, b in zip(answers, references) if a == b)
    predicted, support = Counter(answers), Counter(references)
    for counts in (right, predicted, support):
        counts.pop(outside, None)
    return scores(right, predicted, support, order)


def _means(lines: Sequence[Line]) -> list[Line]:
    total = sum(line.support for line in lines)

    def mean(name: str, weights: list[float]) -> Line:
        whole = sum(weights) or 1.0
        parts = [
            sum(w * getattr(line, field) for w, line in zip(weights, lines)) / whole
            for field in ("precision", "recall", "f1")
        ]
        return Line(name, parts[0], parts[1], parts[2], total)

    return [mean("macro", [1.0] * len(lines)), mean("weighted", [float(x.support) for x in lines])]


def _line(label: str, right: int, predicted: int, support: int) -> Line:
    both = predicted + support
    return Line(
        label,
        right / predicted if predicted else 0.0,
        right / support if support else 0.0,
        2 * right / both if both else 0.0,
        support,
    )
