"""The words of a plain text, and which token of which window answers for each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Encoding

#: Words of plain text: links, tags and mentions, Han characters one by one, words, signs.
_WORD = re.compile(
    r"https?://\S+|[\u3400-\u9fff]|[@#]?[^\W\u3400-\u9fff]+(?:[-.&/][^\W\u3400-\u9fff]+)*"
    r"|['’][^\W\u3400-\u9fff]+|[^\w\s]"
)


def word_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each word of a plain text, in characters.

    Marks and joiners belong to the letter before them, however it is composed; a lone one is a sign.
    """
    if not text.isascii():
        plain: list[str] = []
        for character in text:
            joins = unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"
            plain.append("a" if joins and plain and plain[-1].isalnum() else character)
        text = "".join(plain)
    return [match.span() for match in _WORD.finditer(text)]


def assigned(
    windows: list[Encoding], spans: list[tuple[int, int]] | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per window: positions of first subwords, and their words, each word in exactly one window.

    A word that several windows hold goes to the one in which it is farthest from both ends. `spans` are the
    words' in a plain text; None where the tokenizer was given words.
    """
    firsts: list[
        dict[int, tuple[int, int]]
    ] = []  # per window: word → its first position here, where it starts
    for window in windows:
        seen: dict[int, tuple[int, int]] = {}
        for position, word, start in _given(window) if spans is None else _overlapping(window, spans):
            seen.setdefault(word, (position, start))
        firsts.append(seen)
    begins: dict[int, int] = {}
    for seen in firsts:
        for word, (_, start) in seen.items():
            begins[word] = min(start, begins.get(word, start))
    best: dict[int, tuple[int, int, int]] = {}
    for w, (window, seen) in enumerate(zip(windows, firsts)):
        for word, (position, start) in seen.items():
            if start > begins[word]:
                continue  # this window begins inside the word
            margin = min(position, len(window.ids) - 1 - position)
            if word not in best or margin > best[word][0]:
                best[word] = (margin, w, position)
    chosen: list[list[tuple[int, int]]] = [[] for _ in windows]
    for word, (_, w, position) in best.items():
        chosen[w].append((position, word))
    pairs = [np.array(sorted(rows), dtype=np.int64).reshape(-1, 2) for rows in chosen]
    return [(pair[:, 0], pair[:, 1]) for pair in pairs]


def _given(window: Encoding) -> Iterator[tuple[int, int, int]]:
    """(position, word, where in the word it starts) of each subword of given words."""
    for position, (word, (start, _)) in enumerate(zip(window.word_ids, window.offsets)):
        if word is not None:
            yield position, word, start


def _overlapping(window: Encoding, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(position, word, where in the text it starts) of each token that shares characters with a word.

    A token of the space before a word alone is the word's first, as it is where the word itself is given.
    """
    begins = np.array([start for start, _ in spans])
    if not len(begins):
        return
    numbers, offsets = window.word_ids, window.offsets
    for position, (start, end) in enumerate(offsets):
        if end <= start or window.special_tokens_mask[position]:
            continue
        # Some tokenizers count the space before a word as part of its first token.
        word = int(np.searchsorted(begins, end - 1, side="right")) - 1
        if word >= 0 and end > spans[word][0] and start < spans[word][1]:
            first, after = position, spans[word - 1][1] if word else 0
            while first and numbers[first - 1] is not None and numbers[first - 1] == numbers[position]:
                a, b = offsets[first - 1]
                if a < b and not (a >= after and b <= spans[word][0]):
                    break
                first -= 1
            yield first, word, max(start, spans[word][0])
