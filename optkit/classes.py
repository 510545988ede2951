"""The classes of the data and the labels of a model: which is which."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.errors import DataError

#: The name of each class of the data, and which label of the model it is; None where the model has no such.
Classes = list[tuple[str, int | None]]


def matched(names: Sequence[str], labels: Sequence[str]) -> Classes | None:
    """Each of `names` with its place among `labels`, by name; upper and lower case are one.

    None where no name is a label, as for LABEL_0, and there are as many: then a number is the place.
    Raises DataError where no name is a label, and their counts differ.

    >>> matched(["Positive", "Negative"], ["negative", "positive"])
    [('Positive', 1), ('Negative', 0)]
    """
    folded = [_folded(label) for label in labels]
    found: Classes = []
    for name in names:
        if name in labels:
            found.append((name, list(labels).index(name)))
        else:
            found.append((name, folded.index(_folded(name)) if _folded(name) in folded else None))
    if any(place is not None for _, place in found):
        return found
    if len(names) == len(labels):
        return None
    raise DataError(
        f"Expected the classes of the data among the model's labels ({listed(labels)}), "
        f"received {len(names)} others: {listed(names)}.",
        hint="Rename the classes, or give the data that the model was made for.",
    )


def listed(names: Sequence[str]) -> str:
    """The first ten names, for a message."""
    return f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"


def _folded(name: str) -> str:
    return name.strip().lower()
