"""Labels of rows: which a row has, their numbers, and what train must have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from optkit.errors import DataError
from optkit.preprocessing.report import Tally
from optkit.preprocessing.settings import Settings


def labels_of(row: dict[str, Any], settings: Settings) -> list[str]:
    """The labels of a row by name; none where it has none."""
    if "tokens" in row and "tags" in row:
        return [str(tag) for tag in row["tags"]]
    label = row.get(settings.label) if settings.label else None
    return [] if label is None else [str(label)]


def names(shards: Iterable[Path], settings: Settings) -> dict[str, int]:
    """Label → number, in sorted order. Raises DataError where no row has a label."""
    found: set[str] = set()
    received: list[str] = []
    for row in _rows(shards):
        received = received or list(row)
        found.update(labels_of(row, settings))
    if not found and received:
        flag = "--encode-labels" if settings.encode_labels else "--stratify"
        raise DataError(
            f"Expected labels in column {settings.label!r} for {flag}, "
            f"received no label; columns: {', '.join(received)}.",
            hint="Name the column with --label-column.",
        )
    return {label: i for i, label in enumerate(sorted(found))}


def check(tally: Tally) -> None:
    """Raises DataError where nothing can be learnt from train, or other splits do not fit it."""
    if not tally.rows["train"]:
        raise DataError(
            "No row is left for the train split.", hint="Give data with texts that are not empty."
        )
    train = set(tally.labels["train"])
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
    try:
        return not all(float(label).is_integer() for label in labels)
    except ValueError:
        return False
