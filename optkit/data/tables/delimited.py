"""Rows of CSV and TSV files. What a stray quote damages is named, and never taken for one long text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from optkit.data.tables.lines import BadRow, Row, lines
from optkit.errors import DataError

#: Comes behind the last line: a field that is still open takes it in.
_END = "\x1eend of file"
#: The most characters of one field: without it a quote that is not closed would take in any file.
csv.field_size_limit(2**24)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def tsv(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """One row per line: a quote is text, unless a pair of them holds a whole field.

    Raises DataError for a header that cannot be read.
    """
    header: list[str] = []
    for number, line in lines(file):
        problem = str(line) if isinstance(line, BadRow) else ""
        cells = [] if isinstance(line, BadRow) or not line else [_bare(cell) for cell in line.split("\t")]
        if not header:
            header = _header(file, number, cells, problem)
        elif problem := problem or _misfit(header, cells):
            yield number, BadRow(number, problem)
        elif cells:
            yield number, dict(zip(header, cells))


def comma_separated(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows of a CSV file, by the line in which each begins; quoted fields may hold line ends.

    A damaged row of several lines counts as so many bad ones. Raises DataError where a quote is not
    closed, which makes all that follows one text, and for a header that cannot be read.
    """
    held: list[str] = []  # lines of the row that is being read
    broken: dict[int, BadRow] = {}

    def texts() -> Iterator[str]:
        for number, line in lines(file):
            if isinstance(line, BadRow):
                broken[number] = line
            held.append("\n" if isinstance(line, BadRow) else f"{line}\n")
            yield held[-1]
        yield _END

    header: list[str] = []
    reader, last = csv.reader(texts()), 0
    for cells, problem in _records(reader):
        begin, last = last + 1, reader.line_num
        if cells == [_END]:
            return
        if (cells and cells[-1].endswith(_END)) or (last > begin and "field limit" in problem):
            raise DataError(
                f"{str(file)!r} has a quote that is not closed, in the row that begins at line {begin}.",
                hint='Close it; a quote that is text is written twice ("") in a quoted field.',
            )
        if last > begin:
            problem = problem or _stray(held)
        problem = problem or (_misfit(header, cells) if header else "")
        if problem and last > begin:
            problem += f", in the row of lines {begin} to {last}, where a quote may be left open"
        if not header:
            header = _header(file, begin, cells, problem or "".join(map(str, broken.values())))
        elif problem or broken:
            for line in range(begin, last + 1):
                yield line, broken.get(line) or BadRow(line, problem or "a part of its row is not UTF-8")
        elif cells:
            yield begin, dict(zip(header, cells))
        held.clear()
        broken.clear()


def _records(reader: Iterator[list[str]]) -> Iterator[tuple[list[str], str]]:
    """(cells, problem) of each row; after a row that the reader refuses it goes on with the next line."""
    while True:
        try:
            yield next(reader), ""
        except StopIteration:
            return
        except csv.Error as reason:
            yield [], str(reason)


def _stray(held: list[str]) -> str:
    """Why the lines of a row are no CSV by the letter: text behind a closed quote; empty where they are."""
    try:
        list(csv.reader(held, strict=True))
    except csv.Error as reason:
        return str(reason)
    return ""


def _header(file: Path, number: int, cells: list[str], problem: str) -> list[str]:
    """The names of the columns; pandas leaves that of its index, the first one, empty. Raises DataError."""
    if cells and not cells[0].strip() and len(cells) > 1:
        cells = ["Unnamed: 0", *cells[1:]]
    if cells and not all(cell.strip() for cell in cells):
        problem = problem or f"column {[bool(c.strip()) for c in cells].index(False) + 1} has no name"
    if len(set(cells)) < len(cells):
        problem = problem or f"{next(c for c in cells if cells.count(c) > 1)!r} names two columns"
    if problem:
        raise DataError(f"Cannot read the names of the columns in {str(file)!r}, line {number}: {problem}.")
    return cells


def _misfit(header: list[str], cells: list[str]) -> str:
    """Why `cells` are no row below `header`; empty where they are, or there are none."""
    if cells and len(cells) != len(header):
        return f"expected {len(header)} columns, received {len(cells)}"
    return "the names of the columns again" if len(header) > 1 and cells == header else ""


def _bare(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if _QUOTED.fullmatch(cell) else cell
