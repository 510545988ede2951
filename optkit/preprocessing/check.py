"""What makes a row useless although it can be read: tags that fit no words, answers that are not there."""

from __future__ import annotations

from typing import Any

from optkit import entities
from optkit.preprocessing.settings import Settings

TAGS = ("tags", "ner_tags")


def flaw(row: dict[str, Any], settings: Settings) -> str | None:
    """What is wrong with `row`, in words; None where nothing is.

    >>> flaw({"tokens": ["Ada", "ran"], "tags": ["O", "I-PER"]}, Settings())
    "the tags are not valid BIO: 'I-PER' at word 1 follows 'O'"
    """
    if isinstance(row.get("answers"), dict) and "context" in row:
        return _answers(row)
    if "tokens" in row:
        return _tags(row)
    if settings.pair is not None and settings.pair not in row:
        return f"expected a column {settings.pair!r} for the second text, received {', '.join(map(str, row))}"
    for name in filter(None, (settings.text, settings.second(row))):
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int, float)):
            return f"expected text in column {name!r}, received a {type(value).__name__}"
    return None


def _tags(row: dict[str, Any]) -> str | None:
    words = row["tokens"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "expected a list of words in column 'tokens'"
    for name in TAGS:
        tags = row.get(name)
        if tags is None:
            continue
        if not isinstance(tags, list) or len(tags) != len(words):
            received = len(tags) if isinstance(tags, list) else type(tags).__name__
            return f"expected {len(words)} tags in column {name!r}, one per word, received {received}"
        bio = all(isinstance(tag, str) and (tag == "O" or tag[:2] in ("B-", "I-")) for tag in tags)
        problem = entities.fault(tags) if bio else None
        if problem:
            return f"the tags are not valid BIO: {problem}"
    return None


def _answers(row: dict[str, Any]) -> str | None:
    texts, starts = row["answers"].get("text"), row["answers"].get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return "expected as many texts as starts in column 'answers'"
    found = all(row["context"][start : start + len(text)] == text for text, start in zip(texts, starts))
    return None if found else f"the answer of question {row.get('id')!r} is not found in its context"
