"""One row in, one row out: what every worker process does."""

from __future__ import annotations

from typing import Any

from optkit.preprocessing.clean import clean
from optkit.preprocessing.segment import sentences, tagged, words
from optkit.preprocessing.settings import Settings


def transform(row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The cleaned, segmented and tagged row. Raises KeyError where the text column is missing.

    Rows with answers (SQuAD) keep their text as it is: answers are offsets into it.
    """
    if "answers" in row and "context" in row:
        return row
    if "tokens" in row:
        return {**row, "tokens": [clean(token, settings.unescape) or token for token in row["tokens"]]}
    text = clean(str(row[settings.text] or ""), settings.unescape)
    made = {**row, settings.text: text}
    if settings.tag == "jieba":
        tokens, tags = tagged(text)
        if settings.tag_features:
            made[settings.text] = " ".join(f"{word}/{tag}" for word, tag in zip(tokens, tags))
        else:
            made |= {"words": tokens, "pos": tags}
            if settings.segment == "jieba":
                made[settings.text] = " ".join(tokens)
    elif settings.segment == "jieba":
        made[settings.text] = " ".join(words(text))
    elif settings.segment == "sentences":
        made["sentences"] = sentences(text)
    return made


def chunk(rows: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """`transform` of every row."""
    return [transform(row, settings) for row in rows]


def content(row: dict[str, Any], settings: Settings) -> tuple[str, str]:
    """(what decides the split, what makes a duplicate): a SQuAD context stays in one split."""
    if "answers" in row and "context" in row:
        return row["context"], f"{row['context']}\0{row['question']}"
    text = " ".join(row["tokens"]) if "tokens" in row else str(row[settings.text])
    return text, text
