"""Labels of rows: which a row has, their numbers, and what train must have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from optkit.errors import DataError
from optkit.preprocessing.report import Tally
from optkit.preprocessing.settings import BY_NAME, Settings
from optkit.tasks.label_mapping import label_name


def labels_of(row: dict[str, Any], settings: Settings) -> list[str] | None:
    """The labels of a row by name: one, several, or a tag per word; None where it has none.

    >>> labels_of({"text": "x", "label": 1.0}, Settings("text", "label"))
    ['1']
    """
    name = settings.labelled(row) if settings.label else None
    if name is None:
        return None
    value = row[name]
    return [label_name(x) for x in (value if isinstance(value, list) else [value])]


def as_one(row: dict[str, Any], settings: Settings) -> str:
    """All labels of a row as one text: equal where they are, in whatever order several come."""
    labels = labels_of(row, settings) or []
    return " ".join(labels if "tokens" in row else sorted(labels))


def groups(labels: Sequence[Sequence[str]]) -> list[str]:
    """What to stratify each row by: its rarest label, where it has several; "" where it has none.

    >>> groups([["a"], ["a", "b"], []])
    ['a', 'b', '']
    """
    counts = Counter(label for row_labels in labels for label in set(row_labels))
    return [min(row_labels, key=lambda label: (counts[label], label), default="") for row_labels in labels]


def numbered(shards: Iterable[Path], settings: Settings) -> dict[str, int]:
    """Label → number, in sorted order (numbers by size).

    Raises DataError where no row has a label, and for --encode-labels where a row has a list of them, or
    where they are a regression's numbers.
    """
    labels: set[str] = set()
    received: list[str] = []
    for row in _rows(shards):
        received = received or list(row)
        labels.update(labels_of(row, settings) or ())
        name = settings.labelled(row)
        if settings.encode_labels and name and isinstance(row[name], list):
            raise DataError(
                f"Expected one label per row for --encode-labels, received a list in column {name!r}.",
                hint="Leave the flag out: optkit finetune reads lists of names.",
            )
    if not labels and received:
        flag = "--encode-labels" if settings.encode_labels else "--stratify"
        raise DataError(
            f"Expected labels in column {settings.label!r} for {flag}, "
            f"received no label; columns: {', '.join(received)}.",
            hint="Name the column with --label-column.",
        )
    if settings.encode_labels and _is_regression(labels):
        raise DataError(
            "Expected classes for --encode-labels, received numbers with fractions in column "
            f"{settings.label!r}.",
            hint="Leave the flag out: optkit finetune learns numbers as they are.",
        )
    by_size = all(label.isdecimal() for label in labels)
    return {label: i for i, label in enumerate(sorted(labels, key=int if by_size else None))}


def check_named(tally: Tally, label: str | None) -> None:
    """Raises DataError where a column of labels was named and no row has it."""
    if label not in (None, BY_NAME) and not any(tally.labels.values()):
        raise DataError(
            f"Expected labels in column {label!r} (--label-column), received none in any row.",
            hint="Correct the name, or give --no-label.",
        )


def check(tally: Tally) -> None:
    """Raises DataError where nothing can be learnt from train, or other splits do not fit it."""
    if not tally.rows["train"]:
        raise DataError(
            "No row is left for the train split.", hint="Give data with texts that are not empty."
        )
    train = set(tally.labels["train"])
    train |= {f"I-{tag[2:]}" for tag in train if tag.startswith("B-")}  # fine-tuning knows both
    if len(train) == 1:
        raise DataError(
            f"Expected at least two labels in train, received one only: {train.pop()!r}.",
            hint="--no-label prepares text without labels.",
        )
    # Numbers with fractions are a regression, whose splits need not share values.
    if train and not _is_regression(train):
        for split, labels in tally.labels.items():
            if unknown := sorted(set(labels) - train):
                raise DataError(
                    f"The split {split!r} has labels that train lacks: {', '.join(unknown[:5])}.",
                    hint="Correct the labels, or divide one file with --stratify.",
                )


def _rows(shards: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        with shard.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def _is_regression(labels: set[str]) -> bool:
    """Whether these are numbers, some with a fraction."""
    try:
        return not all(float(label).is_integer() for label in labels)
    except ValueError:
        return False
