"""Text cleaning: Unicode NFC, no control or format characters, single spaces."""

from __future__ import annotations

import html
import re
import unicodedata

#: Format characters that spell: zero-width non-joiner and joiner (Persian, Indic scripts, emoji).
_KEPT = "\u200c\u200d"
_SPACE = re.compile(r"\s+")


def clean(text: str, unescape: bool = False) -> str:
    """`text` in NFC, without control characters, white space joined. Cleaning twice changes nothing
    (except with `unescape`, which undoes one level of HTML escapes).

    >>> clean("a\\u0000b \\t  cafe\\u0301")
    'ab café'
    """
    if unescape:
        text = html.unescape(text)
    text = _SPACE.sub(" ", text)
    text = "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
