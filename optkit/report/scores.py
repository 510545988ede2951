"""The lines of `Task.table`, scores by label or kind of example, as cells of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def cells(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A head, "label" first, and the cells of each line: shares with four digits, counts as they are.

    >>> cells([{"label": "O", "f1": 0.5, "support": 3}])
    [['label', 'f1', 'support'], ['O', '0.5000', '3']]
    """
    names = [name for name in lines[0] if name != "label"]
    head = ["label", *(name.replace("_", " ") for name in names)]
    return [head, *([str(line["label"]), *(_cell(line.get(name)) for name in names)] for line in lines)]


def columns_of(lines: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The same as lines of text in columns; none for no lines."""
    rows = cells(lines) if lines else []
    widths = [max(map(len, column)) for column in zip(*rows)]
    for label, *rest in rows:
        numbers = (cell.rjust(max(width, 9)) for cell, width in zip(rest, widths[1:]))
        yield " ".join([label.ljust(max(widths[0], 20)), *numbers])


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
