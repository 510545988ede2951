"""Files of inputs, cut into chunks that can be read on their own: JSON lines, plain lines, Parquet.

A chunk knows where it begins, so that any process can read it without what lies before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.data.tables.lines import BadRow, decoded
from optkit.data.tables.objects import parse
from optkit.data.tables.splits import regular
from optkit.errors import DataError, MissingDependency

if TYPE_CHECKING:
    import pyarrow.parquet

#: The most bytes of one line.
LONGEST_LINE = 16 * 2**20
KINDS = (".jsonl", ".txt", ".parquet")


@dataclass(frozen=True)
class Chunk:
    """`rows` rows from `first` on; `start` is the byte where they begin (in Parquet: `first` again)."""

    number: int
    first: int
    rows: int
    start: int


def plan(file: Path, size: int) -> list[Chunk]:
    """Chunks of `size` rows that cover `file`; blank lines count as rows, and are skipped when read.

    Raises DataError for a file that is missing, empty, or of another kind.
    """
    if file.suffix not in KINDS:
        frame = {".csv": "csv(F)", ".tsv": "csv(F, sep='\\t')", ".json": "json(F)"}.get(file.suffix)
        raise DataError(
            f"Expected a file {', '.join(KINDS)}, received {file.name!r}.",
            hint=frame
            and f"With pandas: pd.read_{frame}.to_json('F.jsonl', orient='records', lines=True)."
            + (
                " Of lists in a column, such as documents: pd.read_csv(F, converters={'documents': "
                "ast.literal_eval}), which reads JSON too."
                if "csv" in frame
                else ""
            ),
        )
    regular(file)
    if file.suffix == ".parquet":
        with _opened_parquet(file) as table:
            count = table.metadata.num_rows
        starts = [(first, first, min(size, count - first)) for first in range(0, count, size)]
    else:
        try:
            starts = list(_line_starts(file, size))
        except OSError as reason:
            raise DataError(f"Cannot read {str(file)!r}: {reason.strerror or reason}.") from reason
    if not starts:
        raise DataError(f"Expected inputs in {str(file)!r}, which is empty.")
    return [Chunk(i, first, rows, start) for i, (first, start, rows) in enumerate(starts)]


def read(file: Path, chunk: Chunk) -> list[tuple[int, dict[str, Any] | str]]:
    """(number of the row, row) of each row that is not blank: a dictionary, or the text of a line."""
    if file.suffix == ".parquet":
        return list(enumerate(_parquet_rows(file, chunk), chunk.first))
    rows = []
    with file.open("rb") as stream:
        stream.seek(chunk.start)
        for number in range(chunk.first, chunk.first + chunk.rows):
            raw = stream.readline(LONGEST_LINE + 1)
            if len(raw) > LONGEST_LINE:
                raise DataError(f"Line {number + 1} of {file.name!r} is longer than {LONGEST_LINE:,} bytes.")
            if raw.strip():
                rows.append((number, _parse(file, raw, number)))
    return rows


def _line_starts(file: Path, size: int) -> Iterator[tuple[int, int, int]]:
    """(first row, byte, rows) of each chunk, in one pass that holds one block in memory."""
    first = row = start = 0
    begins, at = 0, 0  # where the current chunk and the current block begin
    last = b""
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            last = block
            position = -1
            while (position := block.find(b"\n", position + 1)) >= 0:
                row += 1
                if row - first == size:
                    yield first, begins, size
                    first, begins = row, at + position + 1
            at += len(block)
            start = at
    if last and not last.endswith(b"\n"):
        row += 1
    if row > first and begins < start:
        yield first, begins, row - first


def _parse(file: Path, raw: bytes, number: int) -> dict[str, Any] | str:
    where = f"line {number + 1} of {str(file)!r}"
    try:
        text = decoded(raw, number + 1)
        row = text if file.suffix == ".txt" else parse(text)
    except (BadRow, ValueError) as reason:
        raise DataError(f"Cannot read {where}: {reason}.") from reason
    if not isinstance(row, (dict, str)):
        raise DataError(f"Expected an object or a string in {where}, received a {type(row).__name__}.")
    return row


def _parquet_rows(file: Path, chunk: Chunk) -> list[dict[str, Any]]:
    """The rows of the groups that the chunk touches, one group in memory at a time."""
    first, rows = 0, list[dict[str, Any]]()
    with _opened_parquet(file) as table:
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            low, high = max(chunk.first, first), min(chunk.first + chunk.rows, first + count)
            if low < high:
                rows += table.read_row_group(group).slice(low - first, high - low).to_pylist()
            first += count
    return rows


@contextmanager
def _opened_parquet(file: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """A `pyarrow.parquet.ParquetFile`. Raises DataError, also for damage that is found while it is read."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as reason:
        raise MissingDependency.of("pyarrow", "parquet") from reason
    try:
        with file.open("rb") as stream:  # Arrow would take some names for a URL
            yield pyarrow.parquet.ParquetFile(stream)
    except (pyarrow.ArrowException, OSError, ValueError) as reason:  # one of these: text that is no UTF-8
        raise DataError(f"Cannot read {str(file)!r} as Parquet: {reason}.") from reason
