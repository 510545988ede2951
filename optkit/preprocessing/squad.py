"""Questions of a SQuAD file, read whole: it is one JSON value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from optkit.core.reading import parse_json, read_text
from optkit.data.tables.lines import BadRow, Row
from optkit.errors import DataError


def questions(file: Path) -> Iterator[Row | BadRow]:
    """The questions in order; one that lacks a part comes as a BadRow, numbered from 1.

    Raises DataError for a file that has no articles with paragraphs.
    """
    try:
        whole = cast(
            dict[str, Any], parse_json(read_text(file, ValueError, most=2**32), str(file), ValueError)
        )
        places = [
            (f"data[{a}].paragraphs[{p}].qas[{q}]", article, paragraph, question)
            for a, article in enumerate(whole["data"])
            for p, paragraph in enumerate(article["paragraphs"])
            for q, question in enumerate(paragraph["qas"])
        ]
    except (ValueError, KeyError, TypeError, BadRow) as reason:
        raise DataError(
            f"{str(file)!r} is not SQuAD JSON: {type(reason).__name__}: {reason}.",
            hint="Expected data, a list of articles; in each paragraphs; in each a context and qas.",
        ) from reason
    for number, (path, article, paragraph, question) in enumerate(places, start=1):
        try:
            yield _row(article, paragraph, question)
        except KeyError as missing:
            yield BadRow(number, f"{path} lacks {missing}")
        except TypeError:
            yield BadRow(number, f"{path} is no question with a list of answers")


def _row(article: dict[str, Any], paragraph: dict[str, Any], question: dict[str, Any]) -> Row:
    answers = question["answers"]
    return {
        "id": question["id"],
        "title": article.get("title", ""),
        "context": paragraph["context"],
        "question": question["question"],
        "answers": {
            "text": [a["text"] for a in answers],
            "answer_start": [a["answer_start"] for a in answers],
        },
    }
