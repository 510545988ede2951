"""Rows in, as many rows out: what every worker process does."""

from __future__ import annotations

from typing import Any

from optkit.preprocessing.check import has_answers
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
        places = [(i, name) for i, row in enumerate(cleaned) for name in _tagged_columns(row, settings)]
        items = [_taggable(cleaned[i], name, settings) for i, name in places]
        for (i, name), (tokens, tags) in zip(places, open_tagger(settings.tag)(items)):
            cleaned[i] = _with_tags(cleaned[i], name, tokens, tags, settings)
    return cleaned


def _cleaned(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if has_answers(row):
        return row
    if "tokens" in row:
        return {**row, "tokens": [clean(token, settings.unescape) or token for token in row["tokens"]]}
    text = clean(str(row[settings.text] or ""), settings.unescape)
    if settings.segment == "jieba" and settings.tag != "jieba":  # which segments as it tags
        text = " ".join(words(text))
    cleaned = {**row, settings.text: text}
    if second := settings.second(row):
        other = clean(str(row[second] or ""), settings.unescape)
        in_words = settings.segment == "jieba" and not (settings.tag == "jieba" and settings.tag_features)
        cleaned[second] = " ".join(words(other)) if in_words else other
    return {**cleaned, "sentences": sentences(text)} if settings.segment == "sentences" else cleaned


def _tagged_columns(row: dict[str, Any], settings: Settings) -> list[str]:
    """A second text has tags as features only: there is one pair of columns for words and tags."""
    if has_answers(row):
        return []
    if "tokens" in row:
        return ["tokens"]
    second = settings.second(row) if settings.tag_features else None
    return [settings.text, second] if second else [settings.text]


def _taggable(row: dict[str, Any], name: str, settings: Settings) -> str | list[str]:
    text = row[name]
    if name == "tokens":
        return text
    return text.split() if settings.segment == "jieba" and settings.tag != "jieba" else text


def _with_tags(
    row: dict[str, Any], name: str, tokens: list[str], tags: list[str], settings: Settings
) -> dict[str, Any]:
    """Tags as the columns `words` and `pos` (of given tokens: `pos`), or as features in the text."""
    if name == "tokens":
        return {**row, "pos": tags}
    if settings.tag_features:
        return {**row, name: " ".join(f"{word}/{tag}" for word, tag in zip(tokens, tags))}
    text = " ".join(tokens) if settings.segment == "jieba" else row[name]
    return {**row, name: text, "words": tokens, "pos": tags}


def content(row: dict[str, Any], settings: Settings) -> tuple[list[str], str]:
    """(the texts, which together decide the split; what makes a duplicate).

    Of a pair it is both texts; of SQuAD a context decides the split, and its questions stay together.
    """
    if has_answers(row):
        return [row["context"]], f"{row['context']}\0{row['question']}"
    if "tokens" in row:
        texts = [" ".join(row["tokens"])]
    else:
        second = settings.second(row)
        texts = [str(row[name]) for name in (settings.text, second) if name is not None]
    return texts, "\0".join(texts)
