"""Reading and writing single files: JSON, checksums, text that is whole or not there."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

from optkit.core.reading import json_list as json_list
from optkit.core.reading import read_json as read_json


def lines_of(text: str) -> list[str]:
    """The lines of `text`, which end at a line feed only: other separators may stand inside of one."""
    return [line.removesuffix("\r") for line in text.split("\n")]


#: Control characters, line separators, what turns text around, and halves of surrogate pairs.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(value: object) -> str:
    """`value` as one line that a terminal bears: what could steer it is shown as its escape.

    >>> plain("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    text = " ".join(line.strip() for line in str(value).splitlines() if line.strip())
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def sha256(file: Path) -> str:
    import hashlib  # 3 ms, which `--help` does not need

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """Twelve hexadecimal digits that stand for `parts`: what JSON writes, arrays and numbers of numpy, else
    what `str` gives.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    import hashlib

    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def is_inside(file: Path, folder: Path) -> bool:
    """Whether `file`, links followed, lies inside of `folder`."""
    return file.resolve().is_relative_to(folder.resolve())


def belongs(file: Path, folder: Path) -> bool:
    """Whether `file` is one of the model folder `folder`: it lies inside, or is a blob of the same hub cache.

    That cache keeps contents in models--X/blobs, and in models--X/snapshots/REVISION links to them.
    """
    if is_inside(file, folder):
        return True
    snapshots, target = folder.resolve().parent, file.resolve()
    return snapshots.name == "snapshots" and target.parent == snapshots.parent / "blobs"


def write_json(file: Path, value: object) -> None:
    """Write `value` as JSON; see `finite`."""
    write_text(file, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: object) -> object:
    """`value` with null for NaN and infinities, which RFC 8259 does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(file: Path, text: str) -> None:
    """Write so that a reader never sees half of it."""
    temporary = file.with_name(f".{file.name}.partial-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
