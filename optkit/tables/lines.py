"""Lines of text files with their numbers, and `BadRow`, which stands for one that cannot be read."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class BadRow(Exception):
    """A line that cannot be read; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def lines(file: Path) -> Iterator[tuple[int, str | BadRow]]:
    """(number, line without its end); without the mark that Excel puts in front of UTF-8."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as reason:
                yield number, BadRow(number, f"not UTF-8: byte 0x{line[reason.start]:02x}")
