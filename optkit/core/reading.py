"""Reading a file that may come from a stranger: regular files only, of bounded size and depth.

Every settings file, manifest and report is read here, so that none can hang the process (a FIFO, a
device), fill its memory, or hand on a value that JSON does not have (NaN, half of a surrogate pair).
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, TypeAlias

#: A value of a JSON file.
Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

#: Bytes of a settings file, a report or a tokenizer; the largest of today's tokenizers has 33 MB.
MOST_BYTES = 2**28
#: Arrays and objects in one another.
MOST_DEPTH = 64
#: Digits of a whole number: transformers writes 31 of them for "no limit".
_MOST_DIGITS = 40
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_bytes(file: Path, error: type[Exception], most: int = MOST_BYTES) -> bytes:
    """The contents of the regular file `file`. Raises `error` for anything else, and above `most` bytes."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write into it.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            check_regular(os.fstat(stream.fileno()), file, error, most)
            content = stream.read(most + 1)
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name, or `error` itself
        if isinstance(reason, error):
            raise
        said = getattr(reason, "strerror", None) or reason
        raise error(f"Cannot read {str(file)!r}: {said}.") from reason
    if len(content) > most:
        raise error(f"Expected at most {most:,} bytes in {str(file)!r}, received more.")
    return content


def check_regular(state: os.stat_result, file: Path, error: type[Exception], most: int | None = None) -> None:
    """Raise `error` unless `state` is a regular file's, of at most `most` bytes."""
    if not stat.S_ISREG(state.st_mode):
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe, socket or device"
        raise error(f"Expected a file in {str(file)!r}, received {kind}.")
    if most is not None and state.st_size > most:
        raise error(f"Expected at most {most:,} bytes in {str(file)!r}, received {state.st_size:,}.")


def read_text(file: Path, error: type[Exception], most: int = MOST_BYTES) -> str:
    """The UTF-8 text in `file`, without a byte order mark; `error` where it is none."""
    try:
        return read_bytes(file, error, most).decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"Expected UTF-8 in {str(file)!r}: {reason}.") from reason


def read_json(file: Path, error: type[Exception], finite: bool = True, strict: bool = True) -> dict[str, Any]:
    """The object in a JSON file. Raises `error` for any other value; see `parse_json`."""
    value = parse_json(read_text(file, error), str(file), error, finite, strict)
    if not isinstance(value, dict):
        raise error(f"Expected an object in {str(file)!r}, received a {type(value).__name__}.")
    return value


def json_list(file: Path, error: type[Exception]) -> list[dict[str, Any]]:
    """A JSON file that holds a list of objects."""
    value = parse_json(read_text(file, error), str(file), error)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise error(f"Expected a list of objects in {str(file)!r}, received a {type(value).__name__}.")
    return value


def parse_json(
    text: str, name: str, error: type[Exception], finite: bool = True, strict: bool = True
) -> Json:
    """The value of `text`, which came from the file `name`. Raises `error`; see `json_value`.

    >>> parse_json('{"a": [1, 2.5]}', "x.json", ValueError)
    {'a': [1, 2.5]}
    """
    try:
        return json_value(text, finite, strict)
    except ValueError as reason:
        raise error(f"{name!r} is not valid JSON: {reason}.") from reason


def json_value(text: str, finite: bool = True, strict: bool = True) -> Json:
    """The value of `text`. Raises ValueError, with the reason in words, for what is no JSON (RFC 8259).

    That is also a key given twice, NaN and infinities (allowed where `finite` is False, as some config.json
    have them), numbers too long for any use, half of a surrogate pair (allowed unless `strict`), and arrays
    and objects deeper than `MOST_DEPTH`.

    >>> json_value('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: the key 'a' is given twice
    """

    def number(digits: str) -> float:
        value = float(digits)
        if finite and not math.isfinite(value):
            raise ValueError(f"{digits[:40]} is no finite number")
        return value

    try:
        value: Json = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=number,
            parse_constant=number,
        )
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels") from None
    if strict and _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} is given twice")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _check_depth(value: Json) -> None:
    """Raise RecursionError where containers lie deeper in one another than `MOST_DEPTH`."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        if depth > MOST_DEPTH:
            raise RecursionError
        level = [x for item in level for x in (item.values() if isinstance(item, dict) else item)]
