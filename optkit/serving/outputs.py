"""Answers on disk: one part per chunk, then one file of all. JSON lines or Parquet, by the name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from optkit.errors import DataError, MissingDependency, RecipeError

if TYPE_CHECKING:
    import pyarrow

KINDS = (".jsonl", ".parquet")
#: Types of Parquet columns by their values' type; anything else is kept as JSON text.
_ARROW = {bool: "bool_", int: "int64", float: "float64", str: "string"}
_TYPES = {**{kind.__name__: arrow for kind, arrow in _ARROW.items()}, "json": "string", "null": "null"}


def check(file: Path) -> None:
    """Raise where answers cannot be written to a file of this name."""
    if file.suffix not in KINDS:
        raise RecipeError(f"Expected an output {' or '.join(KINDS)}, received {file.name!r}.")
    if file.suffix == ".parquet":
        _arrow()


def plain(value: object) -> object:
    """`value` as both formats hold it: dates, times and decimals, which JSON lacks, as text.

    Raises RecipeError for bytes.
    """
    if isinstance(value, (date, time, Decimal)):
        return value.isoformat() if not isinstance(value, Decimal) else str(value)
    if isinstance(value, bytes):
        raise RecipeError("Expected columns of text and numbers in --keep, received one of bytes.")
    return value


def kinds_of(rows: Sequence[dict[str, Any]], nested: Sequence[str] = ()) -> dict[str, str]:
    """Column → kind of its values in `rows`: a scalar's type, `vector`, `scores`, `json` or `null`.

    What is nested in the columns `kept` is `json`; whole numbers beside fractions are floats. Raises
    DataError for another mixture.
    """
    types: dict[str, str] = {}
    for name in rows[0] if rows else ():
        kinds = {_kind(row[name], name in nested) for row in rows if row.get(name) is not None}
        types[name] = _joint(name, kinds)
    return types


def _joint(name: str, kinds: set[str]) -> str:
    kinds = kinds - {"null"}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) > 1:
        raise DataError(
            f"The column {name!r} holds values of several kinds: {', '.join(sorted(kinds))}.",
            hint="Write .jsonl, which takes rows of any kind, or leave the column out of --keep.",
        )
    return kinds.pop() if kinds else "null"


def write_part(file: Path, rows: Sequence[dict[str, Any]], kinds: dict[str, str]) -> None:
    """Write `rows` so that `file` appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.partial-{os.getpid()}")
    if file.suffix == ".jsonl":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(lines)
    else:
        pyarrow = _arrow()
        columns = {name: _column(pyarrow, rows, name, kind) for name, kind in kinds.items()}
        marked = {"kinds": json.dumps(kinds)}
        pyarrow.parquet.write_table(pyarrow.table(columns, metadata=marked), temporary)
    temporary.replace(file)


def merge(parts: Sequence[Path], file: Path) -> None:
    """All parts in order as `file`, one part in memory; it appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.partial-{os.getpid()}")
    try:
        if file.suffix == ".jsonl":
            with temporary.open("wb") as stream:
                for part in parts:
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, stream, 2**20)
        else:
            _merge_parquet(parts, temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _merge_parquet(parts: Sequence[Path], file: Path) -> None:
    """The kinds of the columns are those of all parts together, whichever came first."""
    pyarrow = _arrow()
    schemas = [pyarrow.parquet.read_schema(part) for part in parts]
    filled = [(part, schema) for part, schema in zip(parts, schemas) if len(schema)]
    if not filled:
        raise DataError("Expected inputs, received blank lines only.")
    told = [json.loads(schema.metadata[b"kinds"]) for _, schema in filled]
    kinds = {name: _joint(name, {kinds[name] for kinds in told}) for name in told[0]}
    whole = pyarrow.schema([(name, _type(pyarrow, kind)) for name, kind in kinds.items()])
    with pyarrow.parquet.ParquetWriter(file, whole) as writer:
        for part, _ in filled:
            with part.open("rb") as stream:
                table = pyarrow.parquet.ParquetFile(stream).read().replace_schema_metadata(None)
            try:
                writer.write_table(table.cast(whole))
            except pyarrow.ArrowInvalid as reason:
                raise DataError(
                    f"A column of --keep holds numbers that are too large beside fractions: {reason}.",
                    hint="Write .jsonl, which keeps every number.",
                ) from reason


def _kind(value: object, nested: bool) -> str:
    if type(value) in _ARROW:
        return type(value).__name__
    if nested:
        return "json"
    if isinstance(value, list) and value and all(isinstance(x, float) for x in value):
        return "vector"
    if isinstance(value, dict) and value and all(isinstance(x, float) for x in value.values()):
        return "scores"
    return "json"


def _column(pyarrow: ModuleType, rows: Sequence[dict[str, Any]], name: str, kind: str) -> pyarrow.Array:
    values = [row.get(name) for row in rows]
    if kind == "json":
        values = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
    elif kind == "scores":
        values = [None if v is None else list(v.items()) for v in values]
    try:
        return pyarrow.array(values, _type(pyarrow, kind))
    except (pyarrow.ArrowException, OverflowError) as reason:
        raise DataError(
            f"The column {name!r} holds a number that Parquet has no room for: {reason}.",
            hint="Write .jsonl, which keeps every number, or leave the column out of --keep.",
        ) from reason


def _type(pyarrow: ModuleType, kind: str) -> pyarrow.DataType:
    if kind == "vector":
        return pyarrow.list_(pyarrow.float32())
    if kind == "scores":
        return pyarrow.map_(pyarrow.string(), pyarrow.float64())
    return getattr(pyarrow, _TYPES[kind])()


def _arrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as reason:
        raise MissingDependency.of("pyarrow", "parquet") from reason
    return pyarrow
