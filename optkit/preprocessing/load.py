"""Rows of JSONL, CSV, Parquet, CoNLL, SQuAD files and hub data sets, one at a time, with line numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from optkit.data import Data, class_names
from optkit.errors import DataError
from optkit.files import sha256
from optkit.preprocessing.squad import questions
from optkit.tables.delimited import comma_separated, tsv
from optkit.tables.lines import BadRow, Row, lines
from optkit.tables.numbers import reader_of

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".conll", ".txt")
_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
          "val": "validation", "dev": "validation", "test": "test"}  # fmt: skip
_UNITS = {".json": "question", ".parquet": "row"}
_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """One split as it comes: a file, or a split of a hub data set.

    `name` and `unit` (what numbers count) are for messages, `digest` stands for the content; `untyped`
    says that every value is text.
    """

    name: str
    digest: str
    read: Callable[[], Iterator[tuple[int, Row | BadRow]]]
    unit: str = "line"
    untyped: bool = False

    def rows(self, label: str | None) -> Iterator[tuple[int, Row | BadRow]]:
        """(number, row) for each row; an untyped source is read twice, to know what its column `label` is."""
        if not self.untyped or label is None:
            yield from self.read()
            return
        read = reader_of(row[label] for _, row in self.read() if not isinstance(row, BadRow) and label in row)
        for number, row in self.read():
            if not isinstance(row, BadRow) and label in row:
                row = {**row, label: read(row[label])}
            yield number, row


def sources(source: str | Path) -> dict[str, Source]:
    """Split → where it comes from; a single file is `all`. Raises DataError.

    What is no local path may be a hub data set: `owner/name` or `owner/name:config`.
    """
    path = Path(source)
    if not path.exists() and _HUB.fullmatch(str(source)):
        data = Data(str(source))
        return {split: _hub_source(data, split) for split in data.splits}
    if path.is_file() and path.suffix in ENDINGS:
        found = {"all": path}
    elif path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix in ENDINGS and f.stem.lower() in _NAMES]
        found = {_NAMES[f.stem.lower()]: f for f in files}
        if len(found) < len(files):
            raise DataError(f"Expected one file per split in {str(path)!r}, received several.")
    else:
        found = {}
    if not found:
        raise DataError(
            f"Expected a file, or a folder of train, validation and test files, received {str(path)!r}.",
            hint=f"Known endings: {', '.join(ENDINGS)}. A hub data set is written owner/name.",
        )
    for file in found.values():
        if file.stat().st_size == 0:
            raise DataError(f"{str(file)!r} is empty.", hint="Give data with at least one example.")
    return {
        split: Source(
            str(file),
            file.suffix + sha256(file),
            partial(rows, file),
            _UNITS.get(file.suffix, "line"),
            file.suffix in (".csv", ".tsv"),
        )
        for split, file in found.items()
    }


def _hub_source(data: Data, split: str) -> Source:
    table = data.whole(split)
    return Source(f"{data.name}, {split}", table._fingerprint, partial(_named, table), "row")


def _named(table: Any) -> Iterator[tuple[int, Row]]:
    """Rows of a `datasets.Dataset`, with the names of labels that are kept as numbers."""
    names = _class_names(table.features)
    for number, row in enumerate(table, start=1):
        yield number, _with_names(row, names)


def _class_names(features: Any) -> dict[str, list[str]]:
    """Column → names of its classes, for a class per row and for lists of classes."""
    found = {name: class_names(feature) for name, feature in features.items()}
    return {name: names for name, names in found.items() if names}


def _with_names(row: Row, names: dict[str, list[str]]) -> Row:
    return {n: _name(value, names[n]) if n in names else value for n, value in row.items()}


def _name(value: Any, names: list[str]) -> Any:
    """None where the number is -1, which stands for no label on the hub."""
    if isinstance(value, list):
        return [_name(x, names) for x in value]
    return names[value] if value is not None and value >= 0 else None


def rows(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """(number, row) for each row; what cannot be read comes as a BadRow, and reading goes on."""
    if file.suffix == ".parquet":
        yield from _parquet(file)
    elif file.suffix == ".json":
        yield from enumerate(questions(file), start=1)
    elif file.suffix in (".csv", ".tsv"):
        yield from tsv(file) if file.suffix == ".tsv" else comma_separated(file)
    elif file.suffix == ".jsonl":
        for number, line in lines(file):
            if isinstance(line, BadRow) or line.strip():
                yield number, line if isinstance(line, BadRow) else _json(line, number)
    else:
        yield from _conll(file)


def _parquet(file: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(file) as table:
        names: dict[str, list[str]] = {}
        if b"huggingface" in (table.schema_arrow.metadata or {}):
            import datasets

            names = _class_names(datasets.Features.from_arrow_schema(table.schema_arrow))
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, _with_names(row, names)


def _json(line: str, number: int) -> Row | BadRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as reason:
        return BadRow(number, f"{reason.msg} at column {reason.colno}")
    except (ValueError, RecursionError) as reason:  # a number of too many digits, brackets too deep
        return BadRow(number, str(reason))
    return row if isinstance(row, dict) else BadRow(number, "expected an object")


def _conll(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Sentences of `token … tag` lines, with an empty line after each."""
    tokens: list[str] = []
    tags: list[str] = []
    first, broken = 1, None
    for number, line in chain(lines(file), [(0, "")]):
        if isinstance(line, str) and (not line.strip() or line.startswith("-DOCSTART-")):
            if broken:
                yield broken.line, broken
            elif tokens:
                yield first, {"tokens": tokens, "tags": tags}
            tokens, tags, broken = [], [], None
            continue
        first = first if tokens else number
        cells = [] if isinstance(line, BadRow) else line.split()
        if len(cells) < 2:
            why = str(line) if isinstance(line, BadRow) else "expected a token and a tag"
            broken = broken or BadRow(number, why)
            continue
        tokens.append(cells[0])
        tags.append(cells[-1])
