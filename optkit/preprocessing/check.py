"""What makes a row useless although it can be read: tags that fit no words, answers that are not there."""

from __future__ import annotations

from typing import Any

from optkit.preprocessing.settings import Settings
from optkit.tasks import bio_tags


def flaw(row: dict[str, Any], settings: Settings) -> str | None:
    """What is wrong with `row`, in words; None where nothing is.

    >>> flaw({"tokens": ["Ada", "ran"], "tags": ["O", "I-PER"]}, Settings("text", "tags"))
    "the tags are not valid BIO: 'I-PER' at word 1 follows 'O'"
    """
    if has_answers(row):
        return _answers(row)
    if "tokens" in row:
        return _tags(row, settings)
    for name, flag in ((settings.text, "--text-column"), (settings.pair, "--pair-column")):
        if name is not None and name not in row:
            return f"expected a column {name!r} ({flag}), received {', '.join(map(str, row))}"
    for name in filter(None, (settings.text, settings.second(row))):
        value = row.get(name)
        if value is not None and not isinstance(value, (str, int, float)):
            return f"expected text in column {name!r}, received a {type(value).__name__}"
    return None


def has_answers(row: dict[str, Any]) -> bool:
    """Whether this is a row of SQuAD."""
    return "answers" in row and "context" in row


def _tags(row: dict[str, Any], settings: Settings) -> str | None:
    words = row["tokens"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "expected a list of words in column 'tokens'"
    name = settings.labelled(row)
    if name is None:
        return None
    tags = row[name]
    if not isinstance(tags, list) or len(tags) != len(words):
        received = len(tags) if isinstance(tags, list) else type(tags).__name__
        return f"expected {len(words)} tags in column {name!r}, one per word, received {received}"
    bio = all(isinstance(tag, str) and (tag == "O" or tag[:2] in ("B-", "I-")) for tag in tags)
    problem = bio_tags.fault(tags) if bio else None
    return f"the tags are not valid BIO: {problem}" if problem else None


def _answers(row: dict[str, Any]) -> str | None:
    for name in ("context", "question"):
        if not isinstance(row.get(name), str):
            return f"expected text in column {name!r}, received {row.get(name)!r:.50}"
    answers = row["answers"] if isinstance(row["answers"], dict) else {}
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return "expected as many texts as starts in column 'answers'"
    if not all(isinstance(start, int) and not isinstance(start, bool) for start in starts):
        return f"expected whole numbers as answer_start, received {starts!r:.50}"
    if not all(isinstance(text, str) for text in texts):
        return f"expected texts in column 'answers', received {texts!r:.50}"
    in_context = all(
        text and start >= 0 and row["context"][start : start + len(text)] == text
        for text, start in zip(texts, starts)
    )
    return None if in_context else f"the answer of question {row.get('id')!r} is not found in its context"
