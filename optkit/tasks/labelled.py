"""`Labelled`: rows of a data set as a task reads them, and the `Columns` that they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import DataError

#: What `Task.encode` takes for one example, which is for each task to say: a text, a pair, words, an image.
Input: TypeAlias = Any
#: One answer of a task, or the truth that it is scored against: a dataclass, a label, a list, a number.
Answer: TypeAlias = Any
#: A type that is put together at run time, as pydantic takes it: `str`, `Annotated[list[str], ...]`.
JsonType: TypeAlias = Any
#: Raw outputs: name → one array per example.
Outputs = Mapping[str, Sequence[np.ndarray]]

#: What stands between the two texts of a pair in `Labelled.sources`.
BETWEEN = " ⟂ "


@dataclass(frozen=True)
class Columns:
    """Which columns of the data hold what; None: detected by name and type."""

    text: str | None = None
    pair: str | None = None
    label: str | None = None

    def __str__(self) -> str:
        """As in "text in 'sentence', label in 'label'"."""
        return ", ".join(f"{part} in {name!r}" for part, name in vars(self).items() if name is not None)


@dataclass(frozen=True)
class Labelled:
    """Examples ready for a model: `encoded` inputs, `references` (one per example), `sources`, `inputs`.

    `sources` keeps the text of each example for reports, `inputs` what `Task.encode` takes for it.
    `skipped` counts the rows that hold nothing to learn from or to score. `columns` are those that were read.
    """

    encoded: EncodedSet
    references: list[Answer]
    sources: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    skipped: int = 0
    columns: Columns = field(default_factory=Columns)

    def described(self, data: str, split: str = "") -> str:
        """Which rows and columns these are, in a line of progress."""
        rows = f"read {len(self.references)} rows of {f'the split {split} of ' if split else ''}{data}"
        return f"{rows}: {self.columns}" if str(self.columns) else rows

    @property
    def empty(self) -> int:
        """Examples without any text: answered all the same, from what the tokenizer puts around it."""
        return sum(not source.replace(BETWEEN, "").strip() for source in self.sources)


def tabbed(line: str, one: str, several: str) -> tuple[str, list[str]]:
    r"""What a `line` holds of an input that is one text and several: a tab stands before each of these.

    >>> tabbed("who wrote it\tHomer\tVirgil", "question", "choices")
    ('who wrote it', ['Homer', 'Virgil'])

    Raises DataError for a line without a tab.
    """
    first, *rest = line.split("\t")
    if not rest:
        word = several[:-1].upper()
        raise DataError(
            f"Expected a {one} and {several} with a tab before each, received {line[:100]!r}.",
            hint=f"Write {one.upper()}<tab>{word}<tab>{word}, or give a file with columns.",
        )
    return first, rest
