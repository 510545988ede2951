"""Inputs without labels, from a file: a teacher's answers, or the model's own, stand in for labels."""

from __future__ import annotations

import os
from pathlib import Path

from optkit.core.files import lines_of
from optkit.data.dataset import Data
from optkit.data.tables.splits import regular
from optkit.errors import DataError
from optkit.tasks.base import Columns, Task
from optkit.tasks.labelled import Input


def there(file: str) -> Path:
    """The path of `file`. Raises DataError where there is none."""
    if not os.path.isfile(file):
        raise DataError(f"Expected a file of texts, received {file!r}, which does not exist or is none.")
    return regular(Path(file))


def read(file: str, task: type[Task] | Task, wanted: Columns = Columns()) -> tuple[list[Input], Columns]:
    """The inputs of `task` in `file`, and the columns that held them; what is empty is left out.

    They are the lines of a .txt, else what `Task.input_columns` names in a table, as for every command. An
    input may also be a list of words. Raises DataError for a file that is missing, empty or of another kind,
    and for an input that is no text.
    """
    path, columns = there(file), Columns()
    if path.suffix == ".txt":
        try:
            lines = lines_of(path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError as reason:
            raise DataError(f"{file!r} is not UTF-8 at byte {reason.start}.") from reason
        items = [task.from_line(line) for line in lines if line]
    else:
        rows = Data(file).whole("all")
        names = task.input_columns(rows.column_names, wanted)
        columns = Columns(*names[:2])
        items = [task.from_columns(row, names) for row in rows.select_columns(list(names))]
    inputs = []
    for row, item in enumerate(items, start=1):
        parts = item if isinstance(item, tuple) else (item,)
        if not any(parts):
            continue
        if odd := next((x for x in parts if not isinstance(x, (str, list, bytes, dict, bool))), None):
            raise DataError(f"Expected texts in {file!r}, received {type(odd).__name__} in row {row}.")
        inputs.append(item)
    if not inputs:
        raise DataError(f"{file!r} holds no text.")
    return inputs, columns
