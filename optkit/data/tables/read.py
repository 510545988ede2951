"""Files of rows as `datasets.Dataset`: what they hold and nothing else, whatever they are called.

Files are opened by their names and parsed here: neither a pattern, a URL nor a cache of an earlier run stands
between a name and its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.reading import Json
from optkit.data.tables.delimited import comma_separated, tsv
from optkit.data.tables.lines import BadRow, Row
from optkit.data.tables.numbers import reader_of
from optkit.data.tables.objects import json_lines, json_list
from optkit.data.tables.splits import regular
from optkit.errors import DataError, first_line

if TYPE_CHECKING:
    import datasets
    import pyarrow

#: Ending of a file → what gives (number, row) for each of its rows; Parquet is read as a whole.
_ROWS: dict[str, Callable[[Path], Iterator[tuple[int, Row | BadRow]]]] = {
    ".jsonl": json_lines,
    ".json": json_list,
    ".csv": comma_separated,
    ".tsv": tsv,
}
ENDINGS = (*_ROWS, ".parquet")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
#: Rows that are held as Python objects at a time.
_BATCH = 10_000


def read(files: list[Path]) -> datasets.Dataset:
    """The `datasets.Dataset` of `files`, all with one of `ENDINGS`.

    Of CSV and TSV a whole column is numbers, truth values or text; an empty field, and no other, is None.
    Raises DataError with file and line for a row that cannot be read, and where the rows of a column, or the
    files, are of different kinds.
    """
    import datasets
    import pyarrow

    ending = files[0].suffix
    tables: list[pyarrow.Table] = []
    for file in files:
        if regular(file).stat().st_size == 0:
            raise DataError(f"{str(file)!r} is empty.", hint="Give data with at least one example.")
        for table in [_parquet(file)] if ending == ".parquet" else _tables(file):
            names, others = tables[0].column_names if tables else table.column_names, table.column_names
            if set(names) != set(others) and ending not in (".jsonl", ".json"):
                raise DataError(
                    f"Expected the columns {', '.join(names)}, as in {str(files[0])!r}, received "
                    f"{', '.join(others)} in {str(file)!r}."
                )
            tables.append(table)
    try:
        whole = pyarrow.concat_tables(tables or [pyarrow.table({})], promote_options="permissive")
        if ending in (".csv", ".tsv"):
            whole = _typed(whole)
        # Without a name of its own it would be hashed; no cache of `datasets` may ever know it again.
        return datasets.Dataset(whole, fingerprint=datasets.fingerprint.generate_random_fingerprint())
    except (pyarrow.ArrowException, NotImplementedError, ValueError) as reason:
        raise DataError(
            f"Cannot read {', '.join(repr(str(f)) for f in files[:3])} as one table: {first_line(reason)}",
            hint="Every row needs the same columns with the same types.",
        ) from reason


def _tables(file: Path) -> Iterator[pyarrow.Table]:
    """`file` in tables of a batch of rows each."""
    import pyarrow

    rows = _sound(file)
    while batch := list(islice(rows, _BATCH)):
        names = dict.fromkeys(name for _, row in batch for name in row)
        columns = {}
        for name in names:
            values = [row.get(name) for _, row in batch]
            try:
                columns[name] = pyarrow.array(values)
            except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as reason:
                raise _mixed(file, name, batch, reason) from reason
        yield pyarrow.table(columns)


def _sound(file: Path) -> Iterator[tuple[int, Row]]:
    delimited = file.suffix in (".csv", ".tsv")
    for number, row in _ROWS[file.suffix](file):
        if isinstance(row, BadRow):
            raise DataError(
                f"{str(file)!r} has a corrupt line {number}: {row}.",
                hint="Every line is a row, with as many fields as the first line has names."
                if delimited
                else None,
            )
        yield number, {name: value or None for name, value in row.items()} if delimited else row


def _mixed(file: Path, name: str, batch: list[tuple[int, Row]], reason: Exception) -> DataError:
    """What is wrong with column `name`, with the first two rows that do not fit together."""
    kinds = [(number, _KINDS.get(type(row.get(name)))) for number, row in batch]
    there = [(number, kind) for number, kind in kinds if kind]
    odd = next(((number, kind) for number, kind in there if kind != there[0][1]), None)
    what = f"{there[0][1]} in line {there[0][0]} and {odd[1]} in line {odd[0]}" if odd else first_line(reason)
    return DataError(
        f"Expected one kind of values in column {name!r} of {str(file)!r}, received {what}.",
        hint="Every row needs the same columns with the same types; numbers have at most 64 bits.",
    )


def _parquet(file: Path) -> pyarrow.Table:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with file.open("rb") as stream:
            table = parquet.ParquetFile(stream).read()
        table.validate(full=True)
        for index, field in enumerate(table.schema):
            if pyarrow.types.is_dictionary(field.type):  # a categorical of pandas
                plain = table.column(index).cast(field.type.value_type)
                table = table.set_column(index, field.name, plain)
    except (pyarrow.ArrowException, OSError) as reason:
        raise DataError(f"Cannot read {str(file)!r} as Parquet: {first_line(reason)}") from reason
    names = table.column_names
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{str(file)!r} has two columns {twice!r}.", hint="Leave one of them out.")
    return table


def _typed(table: pyarrow.Table) -> pyarrow.Table:
    """`table` of texts, with numbers or truth values where a whole column is."""
    import pyarrow

    for index, name in enumerate(table.column_names):
        values = table.column(index).to_pylist()
        reader = _reader(value for value in values if value is not None)
        read = [None if value is None else reader(value) for value in values] if reader else values
        if not reader or not any(value is not None for value in read):  # words such as None
            read = pyarrow.array(values, pyarrow.string())
        table = table.set_column(index, name, [pyarrow.array(read) if isinstance(read, list) else read])
    return table


def _reader(values: Iterator[str]) -> Callable[[str], Json] | None:
    """What makes numbers or truth values of a column's texts; None where it is text."""
    first = next(values, None)
    if first is None:
        return None
    if first in _TRUTH:
        return _TRUTH.__getitem__ if all(value in _TRUTH for value in values) else None
    reader = reader_of(chain((first,), values))
    return None if isinstance(reader("0"), str) else reader
