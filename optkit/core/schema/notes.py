"""What a run leaves for the next one: studies, rankings, peaks of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

from optkit.core.reading import read_json
from optkit.core.schema.base import Checked, Count, Known, Number, check
from optkit.errors import OutputError

_HINT = "Delete it and run the same command again: it is made anew."
M = TypeVar("M", bound=BaseModel)


class Trial(Known):
    state: str


class Study(Known):
    """study.json"""

    name: str | None = None
    storage: str | None = None
    trials: list[Trial] = Field([], max_length=1_000_000)


class Ranking(Checked):
    """Multiplies with the distance that rounding each costs, and the microseconds that it saves."""

    ranked: list[Annotated[list[str | Number], Field(min_length=2, max_length=2)]]
    saved_us: dict[str, Number]


class PeakMemory(Known):
    peak_rss_bytes: Count


class Disagreement(Checked):
    text: str
    labels: list[str]


class Conflicting(Checked):
    count: Count
    examples: list[Disagreement]


class Unread(Checked):
    file: str
    line: int
    reason: str


class Prepared(Known):
    """preprocessing.json; its settings are those of the key."""

    key: str
    files: dict[str, str]
    rows: dict[str, Count]
    labels: dict[str, dict[str, Count]]
    rows_without_label: dict[str, Count]
    questions_without_answer: dict[str, Count]
    lengths_in_words: dict[str, Count]
    empty_texts: Count
    duplicates: Count
    duplicates_between_splits: dict[str, Count]
    conflicting_labels: Conflicting
    truncated: dict[str, Count]
    skipped: list[Unread]


def left_by_a_run(model: type[M], file: Path) -> M:
    """What an earlier run wrote into `file`. Raises OutputError where it is damaged."""
    return check(model, read_json(file, OutputError), file, OutputError, _HINT)
