"""Texts without labels, from a file: a teacher's answers stand in for labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optkit.data import Data, column
from optkit.errors import DataError
from optkit.files import lines_of

#: Column names looked for, in this order.
COLUMNS = ("text", "sentence", "tokens", "words", "review", "content", "question", "sentence1")


def there(file: str) -> Path:
    """The path of `file`. Raises DataError where there is none."""
    if not os.path.isfile(file):
        raise DataError(f"Expected a file of texts, received {file!r}, which does not exist or is none.")
    return Path(file)


def read(file: str) -> list[Any]:
    """The texts in `file`: lines of a .txt, else the first column of `COLUMNS`; empty ones are left out.

    A row may also be a list of words. Raises DataError for a file that is missing, empty or of another kind.
    """
    path = there(file)
    if path.suffix == ".txt":
        try:
            found: list[Any] = lines_of(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError as reason:
            raise DataError(f"{file!r} is not UTF-8 at byte {reason.start}.") from reason
    else:
        rows = Data(file).whole("all")
        found = list(rows[column(rows, None, COLUMNS, "text", "one of these names")])
    found = [x for x in found if x]
    if not found:
        raise DataError(f"{file!r} holds no text.")
    for place, item in enumerate(found):
        if not isinstance(item, (str, list)):
            raise DataError(f"Expected texts in {file!r}, received {type(item).__name__} in row {place + 1}.")
    return found
