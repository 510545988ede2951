"""CSV and TSV files as rows of `datasets`: text, and numbers or truth values where a whole column is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from optkit.errors import DataError
from optkit.tables.delimited import tsv
from optkit.tables.lines import BadRow
from optkit.tables.numbers import reader_of

_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
#: Rows that are held as Python objects at a time.
_BATCH = 10_000


def read(files: list[Path]) -> Any:
    """The `datasets.Dataset` of `files`, all CSV or all TSV; an empty field, and no other, is None.

    Raises DataError for a line of TSV that is no row, and what `datasets` raises for CSV.
    """
    rows = _tab_separated(files) if files[0].suffix == ".tsv" else _comma_separated(files)
    order = list(rows.column_names)
    for name in order:
        reader = _reader(value for value in rows[name] if value is not None)
        if reader is None:
            continue
        values = [None if value is None else reader(value) for value in rows[name]]
        if any(value is not None for value in values):  # else it is words such as None
            rows = rows.remove_columns(name).add_column(name, values)
    return rows.select_columns(order)


def _comma_separated(files: list[Path]) -> Any:
    """All columns as text: what they hold is decided by all rows, not by each batch."""
    import datasets
    import pandas

    names = pandas.read_csv(files[0], nrows=0, index_col=False).columns
    return datasets.load_dataset(
        "csv",
        data_files={"rows": [str(f) for f in files]},
        split="rows",
        features=datasets.Features({str(name): datasets.Value("string") for name in names}),
        keep_default_na=False,
        na_values=[""],
    )


def _tab_separated(files: list[Path]) -> Any:
    import datasets
    import pyarrow

    tables = []
    for file in files:
        found = _rows(file)
        while batch := list(islice(found, _BATCH)):
            tables.append(pyarrow.table({name: [row[name] for row in batch] for name in batch[0]}))
            names, others = tables[0].column_names, tables[-1].column_names
            if names != others:
                raise DataError(
                    f"Expected the columns {', '.join(names)}, as in {str(files[0])!r}, received "
                    f"{', '.join(others)} in {str(file)!r}."
                )
    text = pyarrow.schema([(name, pyarrow.string()) for name in (tables[0].column_names if tables else ())])
    return datasets.Dataset(pyarrow.concat_tables([t.cast(text) for t in tables] or [pyarrow.table({})]))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, row in tsv(file):
        if isinstance(row, BadRow):
            raise DataError(
                f"{str(file)!r} has a corrupt line {number}: {row}.",
                hint="In TSV every line is a row, with as many fields as the first line has names.",
            )
        yield {name: value or None for name, value in row.items()}


def _reader(values: Iterator[str]) -> Callable[[str], Any] | None:
    """What makes numbers or truth values of a column's texts; None where it is text."""
    first = next(values, None)
    if first is None:
        return None
    if first in _TRUTH:
        return _TRUTH.__getitem__ if all(value in _TRUTH for value in values) else None
    reader = reader_of(chain((first,), values))
    return None if isinstance(reader("0"), str) else reader
