"""Rows in, as many rows out: what every worker process does."""

from __future__ import annotations

from typing import Any

from optkit.preprocessing.clean import clean
from optkit.preprocessing.segment import sentences, words
from optkit.preprocessing.settings import Settings
from optkit.preprocessing.taggers import open_tagger


def chunk(rows: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """The rows cleaned, segmented and tagged.

    Rows with answers (SQuAD) keep their text as it is: answers are offsets into it.
    """
    cleaned = [_cleaned(row, settings) for row in rows]
    if settings.tag != "none":
        places = [i for i, row in enumerate(cleaned) if not _has_answers(row)]
        items = [_taggable(cleaned[i], settings) for i in places]
        for i, (found, tags) in zip(places, open_tagger(settings.tag)(items)):
            cleaned[i] = _with_tags(cleaned[i], found, tags, settings)
    return cleaned


def _cleaned(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if _has_answers(row):
        return row
    if "tokens" in row:
        return {**row, "tokens": [clean(token, settings.unescape) or token for token in row["tokens"]]}
    text = clean(str(row[settings.text] or ""), settings.unescape)
    if settings.segment == "jieba" and settings.tag != "jieba":  # which segments as it tags
        text = " ".join(words(text))
    made = {**row, settings.text: text}
    return {**made, "sentences": sentences(text)} if settings.segment == "sentences" else made


def _taggable(row: dict[str, Any], settings: Settings) -> str | list[str]:
    if "tokens" in row:
        return row["tokens"]
    text = row[settings.text]
    return text.split() if settings.segment == "jieba" and settings.tag != "jieba" else text


def _with_tags(row: dict[str, Any], found: list[str], tags: list[str], settings: Settings) -> dict[str, Any]:
    """Tags as the columns `words` and `pos` (of given tokens: `pos`), or as features in the text."""
    if "tokens" in row:
        return {**row, "pos": tags}
    if settings.tag_features:
        return {**row, settings.text: " ".join(f"{word}/{tag}" for word, tag in zip(found, tags))}
    text = " ".join(found) if settings.segment == "jieba" else row[settings.text]
    return {**row, settings.text: text, "words": found, "pos": tags}


def _has_answers(row: dict[str, Any]) -> bool:
    return "answers" in row and "context" in row


def content(row: dict[str, Any], settings: Settings) -> tuple[str, str]:
    """(what decides the split, what makes a duplicate): a SQuAD context stays in one split."""
    if _has_answers(row):
        return row["context"], f"{row['context']}\0{row['question']}"
    text = " ".join(row["tokens"]) if "tokens" in row else str(row[settings.text])
    return text, text
