"""Answers on disk: one part per chunk, then one file of all. JSON lines or Parquet, by the name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from optkit.errors import DataError, MissingDependency, RecipeError

KINDS = (".jsonl", ".parquet")
#: Types of Parquet columns by their first value; anything else is kept as JSON text.
_ARROW = {bool: "bool_", int: "int64", float: "float64", str: "string"}


def check(file: Path) -> None:
    """Raise where answers cannot be written to a file of this name."""
    if file.suffix not in KINDS:
        raise RecipeError(f"Expected an output {' or '.join(KINDS)}, received {file.name!r}.")
    if file.suffix == ".parquet":
        _arrow()


def plain(value: Any) -> Any:
    """`value` as both formats hold it: dates, times and decimals, which JSON lacks, as text.

    Raises RecipeError for bytes.
    """
    if isinstance(value, (date, time, Decimal)):
        return value.isoformat() if not isinstance(value, Decimal) else str(value)
    if isinstance(value, bytes):
        raise RecipeError("Expected columns of text and numbers in --keep, received one of bytes.")
    return value


def kinds_of(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Column → kind: a scalar's type, `vector`, `scores` or `json`, by its first value in `rows` that is
    not null (`str` where there is none). Decided once per job."""
    found = {}
    for name in rows[0]:
        value = next((row[name] for row in rows if row.get(name) is not None), "")
        found[name] = _kind(value)
    return found


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
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
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
            parquet = _arrow().parquet
            with parquet.ParquetWriter(temporary, parquet.read_schema(parts[0])) as writer:
                for part in parts:
                    writer.write_table(parquet.read_table(part))
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _kind(value: Any) -> str:
    if type(value) in _ARROW:
        return type(value).__name__
    if isinstance(value, list) and value and all(isinstance(x, float) for x in value):
        return "vector"
    if isinstance(value, dict) and value and all(isinstance(x, float) for x in value.values()):
        return "scores"
    return "json"


def _column(pyarrow: Any, rows: Sequence[dict[str, Any]], name: str, kind: str) -> Any:
    values = [row.get(name) for row in rows]
    if kind == "json":
        values = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
        arrow = pyarrow.string()
    elif kind == "vector":
        arrow = pyarrow.list_(pyarrow.float32())
    elif kind == "scores":
        values = [None if v is None else list(v.items()) for v in values]
        arrow = pyarrow.map_(pyarrow.string(), pyarrow.float64())
    else:
        arrow = getattr(pyarrow, _ARROW[{"bool": bool, "int": int, "float": float, "str": str}[kind]])()
    try:
        return pyarrow.array(values, arrow)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as reason:
        raise DataError(
            f"The column {name!r} held {kind} in the first rows and something else later: {reason}.",
            hint="Write .jsonl, which takes rows of any kind, or leave the column out of --keep.",
        ) from reason


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as reason:
        raise MissingDependency.of("pyarrow", "parquet") from reason
    return pyarrow
