"""The columns of rows: which one holds what, and what stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optkit.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import datasets

_OTHER_COLUMN = "Name the right column with --text-column or --pair-column."


def column(have: Sequence[str], wanted: str | None, names: tuple[str, ...], kind: str, flag: str) -> str:
    """Which of the columns `have` holds `kind`: the one asked for, else the first of `names` that is there.

    Raises DataError that lists the columns there are.
    """
    if wanted is not None:
        if wanted not in have:
            raise DataError(
                f"Expected a column {wanted!r} for the {kind}, received the columns {', '.join(have)}.",
                hint=did_you_mean(wanted, have),
            )
        return wanted
    for name in names:
        if name in have:
            return name
    raise DataError(
        f"Cannot tell which column holds the {kind}; columns: {', '.join(have) or 'no other'}.",
        hint=f"Name it with {flag}.",
    )


def class_names(feature: object) -> list[str] | None:
    """The names behind the numbers in a column of `datasets`, one or a list in each row; None where the
    values stand for themselves."""
    one = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return getattr(one, "names", None)


def texts_of(rows: datasets.Dataset, name: str, hint: str = _OTHER_COLUMN) -> list[str]:
    """Column `name` of `rows`. DataError names the first row that holds no text, and gives `hint`."""
    values = list(rows[name])
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(
                f"Expected text in column {name!r}, row {i}, received {value!r} ({type(value).__name__}).",
                hint=hint,
            )
    return values
