"""Labels of CSV and TSV, where all is text: numbers where a whole column is, as `datasets` reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
#: What stands for no value among numbers; among names it is a name as well.
_NONE = {"", "na", "n/a", "nan", "null", "none"}


def reader_of(values: Iterable[str]) -> Callable[[str], str | int | float | None]:
    """What reads each of `values`: as whole numbers or numbers, if all are, else as text. "" is None.

    >>> [reader_of(["1", "0.5", "NA"])(x) for x in ("1", "0.5", "NA")]
    [1.0, 0.5, None]
    >>> [reader_of(["1", "b", "NA", ""])(x) for x in ("1", "b", "NA", "")]
    ['1', 'b', 'NA', None]
    """
    whole = number = True
    for value in values:
        text = value.strip()
        if text.lower() in _NONE:
            continue
        whole = whole and _WHOLE.fullmatch(text) is not None
        number = number and _NUMBER.fullmatch(text) is not None
        if not number:
            return lambda text: text or None
    kind = int if whole else float
    return lambda text: None if text.strip().lower() in _NONE else kind(text)
