"""Choices and answers in the rows of data sets for multiple choice: SWAG, RACE, ARC, CommonsenseQA."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from optkit.errors import DataError
from optkit.tasks.label_mapping import number

#: Columns of what is read before the question, where there is such.
CONTEXT = ("context", "sent1", "article", "passage", "premise")
#: Columns that hold a choice each: ending0, choice1, answerA.
EACH = re.compile(r"(ending|choice|option|answer|sol|solution)_?([0-9]|[A-E])")


def parts_of(names: Sequence[str]) -> tuple[str, list[str], str | None]:
    """Question, choices and context of the columns that `input_columns` gave."""
    question, *choices = names
    context = choices.pop() if choices[-1] in CONTEXT else None
    return question, choices, context


def choices_in(row: Mapping[str, Any], names: Sequence[str], position: int) -> tuple[list[str], list[str]]:
    """The choices in these columns, and what an answer may call them beside their places; [] for nothing."""
    if len(names) > 1:
        ends = [match[2] for name in names if (match := EACH.fullmatch(name))]
        texts, labels = [row[name] for name in names], ends if ends[0] == "A" else []
    else:
        value = row[names[0]]
        if isinstance(value, list) and value and all(isinstance(x, Mapping) for x in value):
            value = {key: [x.get(key) for x in value] for key in ("text", "label")}
        named = isinstance(value, Mapping)
        texts = value.get("text") if named else value
        labels = list(map(str, value.get("label") or ())) if named else []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"Expected texts as the choices at position {position}, in {', '.join(names)}.",
            hint='They are a list, {"text": [...], "label": [...]}, or a column each (ending0, ...).',
        )
    return texts, labels


def place_of(value: Any, texts: Sequence[str], labels: Sequence[str], row: int) -> int:
    """The place of the right choice: the answer is its label, its text, its letter, or its place from 0.

    Raises DataError for one that is none of these, or two of them.
    """
    value = value.item() if hasattr(value, "item") else value
    text, count = str(value), len(texts)
    readings = []
    if list(labels).count(text) == 1:
        return list(labels).index(text)
    if isinstance(value, str) and list(texts).count(value) == 1:
        readings.append(list(texts).index(value))
    if len(text) == 1 and 0 <= ord(text) - ord("A") < count:
        readings.append(ord(text) - ord("A"))
    whole = number(value)
    if whole is not None and whole.is_integer() and 0 <= whole < count:
        readings.append(int(whole))
    if len(set(readings)) == 1:
        return readings[0]
    raise DataError(
        f"Expected the answer of row {row} to be one of its {count} choices, received {value!r}, which is "
        + ("two of them." if readings else "none."),
        hint="Write its place, counted from 0, its letter (A, B, ...), its label, or its text. -1 and "
        "nothing stand for no answer, as in test splits: take a split that has answers.",
    )
