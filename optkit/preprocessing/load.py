"""Rows of JSONL, CSV, Parquet, CoNLL, SQuAD files and hub data sets, one at a time, with line numbers."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.files import sha256
from optkit.core.reading import Json
from optkit.data.columns import class_names
from optkit.data.dataset import Data
from optkit.data.tables.delimited import comma_separated, tsv
from optkit.data.tables.lines import BadRow, Row, lines
from optkit.data.tables.numbers import reader_of
from optkit.data.tables.objects import json_lines, json_list
from optkit.data.tables.read import read as read_table
from optkit.data.tables.splits import regular, split_files
from optkit.errors import DataError
from optkit.preprocessing.squad import questions

if TYPE_CHECKING:
    import datasets
    import pyarrow

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".conll", ".txt")
#: Rows of a split that are looked at for columns: in JSON not every row need have all of them.
LOOKED_AT = 100
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
    data, path = Data(str(source)), Path(source)
    if not data.is_local and _HUB.fullmatch(str(source)):
        return {split: _hub_source(data, split) for split in data.splits}
    paths: dict[str, Path] = {}
    if path.is_dir():
        splits = split_files(path, ENDINGS)
        if several := next((files for files in splits.values() if len(files) > 1), None):
            raise DataError(
                f"Expected one file per split in {str(path)!r}, received "
                f"{', '.join(file.name for file in several)}.",
                hint="Join them into one, or give one file at a time.",
            )
        paths = {split: files[0] for split, files in splits.items()}
    elif data.is_local and regular(path).suffix in ENDINGS:
        paths = {"all": path}
    if not paths:
        raise DataError(
            f"Expected a file, or a folder of train, validation and test files, received {str(path)!r}.",
            hint=f"Known endings: {', '.join(ENDINGS)}. A hub data set is written owner/name.",
        )
    for file in paths.values():
        if regular(file).stat().st_size == 0:
            raise DataError(f"{str(file)!r} is empty.", hint="Give data with at least one example.")
    return {
        split: Source(
            str(file),
            file.suffix + sha256(file),
            partial(rows, file),
            _UNITS.get(file.suffix, "line"),
            file.suffix in (".csv", ".tsv"),
        )
        for split, file in paths.items()
    }


def columns_of(splits: dict[str, Source]) -> list[str]:
    """The columns of the first rows, in order."""
    first = (row for source in splits.values() for _, row in islice(source.read(), LOOKED_AT))
    return list(dict.fromkeys(name for row in first if not isinstance(row, BadRow) for name in row))


def _hub_source(data: Data, split: str) -> Source:
    table = data.whole(split)
    return Source(f"{data.name}, {split}", table._fingerprint, partial(_named, table), "row")


def _named(table: pyarrow.Table) -> Iterator[tuple[int, Row]]:
    """Rows of a `datasets.Dataset`, with the names of labels that are kept as numbers."""
    names = _class_names(table.features)
    for number, row in enumerate(table, start=1):
        yield number, _with_names(row, names)


def _class_names(features: datasets.Features) -> dict[str, list[str]]:
    """Column → names of its classes, for a class per row and for lists of classes."""
    classes = {name: class_names(feature) for name, feature in features.items()}
    return {name: names for name, names in classes.items() if names}


def _with_names(row: Row, names: dict[str, list[str]]) -> Row:
    return {n: _name(value, names[n]) if n in names else value for n, value in row.items()}


def _name(value: int | list[int] | None, names: list[str]) -> Json:
    """None where the number is -1, which stands for no label on the hub."""
    if isinstance(value, list):
        return [_name(x, names) for x in value]
    return names[value] if value is not None and value >= 0 else None


def rows(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """(number, row) for each row; what cannot be read comes as a BadRow, and reading goes on."""
    if file.suffix == ".parquet":
        yield from _named(read_table([file]))
    elif file.suffix == ".json":
        yield from json_list(file) if _is_list(file) else enumerate(questions(file), start=1)
    elif file.suffix in (".csv", ".tsv"):
        yield from tsv(file) if file.suffix == ".tsv" else comma_separated(file)
    elif file.suffix == ".jsonl":
        yield from json_lines(file)
    else:
        yield from _conll(file)


def _is_list(file: Path) -> bool:
    """Whether a JSON file holds a list of rows, not SQuAD's object."""
    with file.open("rb") as stream:
        return stream.read(1024).removeprefix(BOM_UTF8).lstrip().startswith(b"[")


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
