"""Lines of text files with their numbers, and `BadRow`, which stands for one that cannot be read."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: How a file in another encoding begins.
_OTHERS = ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


class BadRow(Exception):
    """A line that cannot be read; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def decoded(line: bytes, number: int) -> str:
    """The text of line `number` (from 1) without its end; of the first one without the mark that Excel puts
    in front of UTF-8. Raises BadRow for what is not UTF-8, and for NUL bytes, of which UTF-16 is full."""
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    if other := next((name for mark, name in _OTHERS if number == 1 and line.startswith(mark)), ""):
        raise BadRow(
            number, f"not UTF-8 but {other}; convert it: iconv -f {other.lower()} -t utf-8 FILE > NEW"
        )
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as reason:
        raise BadRow(number, f"not UTF-8: byte 0x{line[reason.start]:02x}") from reason
    if "\0" in text:
        raise BadRow(number, "a NUL byte, which text has not: is the file binary, or UTF-16?")
    return text


def lines(file: Path) -> Iterator[tuple[int, str | BadRow]]:
    """(number, line without its end) of each line of `file`."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield number, decoded(line, number)
            except BadRow as bad:
                yield number, bad
