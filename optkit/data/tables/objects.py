"""Rows of JSON: a line each (JSONL), or one list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from optkit.core.reading import Json, json_value
from optkit.data.tables.lines import BadRow, Row, decoded, lines
from optkit.errors import DataError


def parse(text: str) -> Json:
    """The JSON value of one line. Raises ValueError as `optkit.core.reading.json_value`, with the column."""
    try:
        return json_value(text)
    except json.JSONDecodeError as reason:
        raise ValueError(f"{reason.msg} at column {reason.colno}") from reason


def json_lines(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """(line, row) of each line of `file` that is not blank."""
    for number, line in lines(file):
        if isinstance(line, BadRow):
            yield number, line
        elif line.strip():
            yield number, _row(line, number)


def json_list(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """(number, row) of each object in a file that holds one list of them, or a line each.

    Raises DataError for another value.
    """
    raw = file.read_bytes()
    try:
        value = parse(decoded(raw, 1))
    except (ValueError, BadRow) as reason:
        if not str(reason).startswith("Extra data"):
            raise DataError(f"{str(file)!r} is not valid JSON: {reason}.") from reason
        yield from json_lines(file)
        return
    if isinstance(value, dict) and not isinstance(value.get("data"), list):
        value = [value]  # JSON lines, of which there is one
    if not isinstance(value, list):
        raise DataError(
            f"Expected a list of objects in {str(file)!r}, received a {type(value).__name__}.",
            hint="Write the rows as JSON lines (.jsonl); optkit preprocess makes them of SQuAD's files.",
        )
    for number, row in enumerate(value, start=1):
        yield number, row if isinstance(row, dict) else _no_object(row, number)


def _row(text: str, number: int) -> Row | BadRow:
    try:
        row = parse(text)
    except ValueError as reason:
        return BadRow(number, str(reason))
    return row if isinstance(row, dict) else _no_object(row, number)


def _no_object(value: object, number: int) -> BadRow:
    return BadRow(number, f"expected an object, received a {type(value).__name__}")
