"""The labels of the data and those of a model: the one rule for which is which.

Values are names first, as they are written and then without regard to case, spaces around them and forms of a
number (1, 1.0, "1"); only where no value of a column is a name are they places: 0 is the first label. What
could be read both ways is refused. True and false are the labels of this name, else 1 and 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

from optkit.errors import DataError, did_you_mean

#: The name of each class of the data, and which label of the model it is; None where the model has no such.
Classes = list[tuple[str, int | None]]
_WHOLE = re.compile(r"([0-9]{1,9})(\.0+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {True: ("true", "yes", "y", "t", "on"), False: ("false", "no", "n", "f", "off")}
_HINT = (
    "Write the labels as text by their names, or name the data's numbers in a file labels.json beside it: "
    '{"label": ["name of 0", "name of 1"]}.'
)


_NO_LABEL = "-1 stands for no label, as in test splits of benchmarks: take a split that has labels."


def matched(names: Sequence[str], labels: Sequence[str]) -> Classes | None:
    """Each of `names` with its place among `labels`, by name.

    None where no name is a label, as for LABEL_0, and there are as many: then a number is the place.
    Raises DataError where no name is a label, and their counts differ, and where two labels differ in case
    only and a name could be either.

    >>> matched(["Positive", "Negative"], ["negative", "positive"])
    [('Positive', 1), ('Negative', 0)]
    """
    classes: Classes = [(name, _named(name, labels)) for name in names]
    if any(index is not None for _, index in classes):
        return classes
    if len(names) == len(labels):
        return None
    raise DataError(
        f"Expected the classes of the data among the model's labels ({listed(labels)}), "
        f"received {len(names)} others: {listed(names)}.",
        hint="Rename the classes, or give the data that the model was made for.",
    )


def places(
    values: Iterable[tuple[int, Any]],
    labels: Sequence[str],
    names: Sequence[str] | None = None,
    by_name: bool = False,
) -> list[int]:
    """The place among `labels` of each of `values`, which come with the numbers of their rows.

    `names` are those of the numbers in the column, where the data says them; with `by_name` the labels are
    the data's own, so that numbers are never places. Raises DataError, with the row, for a value that is none
    of the labels, and with both readings where all values could be names or places.

    >>> places([(0, "true"), (1, False)], ["true", "false"])
    [0, 1]
    """
    values = [(row, value.item() if hasattr(value, "item") else value) for row, value in values]
    first: dict[tuple[type, Any], int] = {}
    for row, value in values:
        if not isinstance(value, (str, bool, int, float)):
            raise unknown(value, row, labels)
        first.setdefault((type(value), value), row)
    table = _named_numbers(first, labels, names) if names else _read(first, labels, by_name)
    return [table[type(value), value] for _, value in values]


def number(value: object) -> float | None:
    """`value` as the finite number that it is or that its text is, as in a table; None where it is none.

    >>> number("0.5"), number(True), number("inf")
    (0.5, None, None)
    """
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < float("inf") else None


def label_name(value: object) -> str:
    """What a value of the data is called as a label: 1.0 as 1.

    >>> label_name(1.0), label_name("good")
    ('1', 'good')
    """
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def listed(names: Sequence[str]) -> str:
    """The first ten names, for a message."""
    return f"{', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"


def unknown(label: object, row: int, labels: Sequence[str]) -> DataError:
    """The error for a label that the model does not have."""
    return DataError(
        f"The label {label!r} in row {row} is unknown to the model, which has: {listed(labels)}.",
        hint=_NO_LABEL if label_name(label) == "-1" else did_you_mean(str(label), labels),
    )


def disagreement(config: Mapping[str, Any]) -> str | None:
    """Where label2id in config.json says otherwise than id2label, by which transformers answers."""
    names, places = config.get("id2label"), config.get("label2id")
    if not isinstance(names, dict) or not isinstance(places, dict):
        return None
    stated = {str(index): str(name) for index, name in names.items()}
    for name, index in places.items():
        if stated.get(str(index)) != str(name):
            return (
                f"config.json disagrees with itself: label2id has {name!r} at {index}, id2label has "
                f"{stated.get(str(index), 'nothing')!r} there. Answers go by id2label, as transformers' do."
            )
    return None


def _named_numbers(
    first: dict[tuple[type, Any], int], labels: Sequence[str], names: Sequence[str]
) -> dict[tuple[type, Any], int]:
    """For numbers of a column whose classes have names: a number stands for its name."""
    classes = matched(names, labels)
    table = {}
    for (kind, value), row in first.items():
        known = kind is int and 0 <= value < len(names)
        name, index = (names[value] if known else value), None
        if classes and known:
            index = classes[value][1]
        elif known:
            index = value
        elif kind is str:
            index = _named(value, labels)
        if index is None:
            raise unknown(name, row, labels)
        table[kind, value] = index
    return table


def _read(
    first: dict[tuple[type, Any], int], labels: Sequence[str], by_name: bool
) -> dict[tuple[type, Any], int]:
    """For values that nothing names: all as names, or none and all as places."""
    as_names = {key: _named(key[1], labels) for key in first}
    as_places = {key: None if by_name else _placed(key[1], labels) for key in first}
    lost = [key for key in first if as_names[key] is None]
    if not lost:
        numbers = [key for key in first if not isinstance(key[1], str) and not _says_truth(key[1], labels)]
        if numbers and all(index is not None for index in as_places.values()):
            for key in numbers:
                if as_names[key] != as_places[key]:
                    raise _two_readings(key[1], first[key], labels, as_names[key], as_places[key])
        return {key: index for key, index in as_names.items() if index is not None}
    unread = next((key for key in lost if as_places[key] is None), None)
    if unread is not None:
        raise unknown(unread[1], first[unread], labels)
    if len(lost) < len(first):
        known = next(key for key in first if as_names[key] is not None)
        raise DataError(
            f"Expected all labels by name or all by number, received {known[1]!r} in row {first[known]}, "
            f"which is a label by name, and {lost[0][1]!r} in row {first[lost[0]]}, which is none of "
            f"{listed(labels)}.",
            hint=_HINT,
        )
    return {key: index for key, index in as_places.items() if index is not None}


def _named(value: object, labels: Sequence[str]) -> int | None:
    """The label that is called `value`. Raises DataError where two are, as far as case and spaces go."""
    if isinstance(value, str) and list(labels).count(value) == 1:
        return list(labels).index(value)
    wanted = [_folded(value)]
    if isinstance(value, bool):
        wanted = list(_TRUTH[value]) if _says_truth(value, labels) else [str(int(value))]
    named = [index for index, label in enumerate(labels) if _folded(label) in wanted]
    if len(named) > 1:
        raise DataError(
            f"Cannot tell which of the model's labels {value!r} is: {listed([labels[i] for i in named])}.",
            hint="Write the labels of the data exactly as the model has them.",
        )
    return named[0] if named else None


def _says_truth(value: object, labels: Sequence[str]) -> bool:
    """Whether `value` is true or false, and a label is called so."""
    return isinstance(value, bool) and any(_folded(label) in _TRUTH[value] for label in labels)


def _placed(value: object, labels: Sequence[str]) -> int | None:
    """The place that a number, or the text of one, means; of two labels true is the second."""
    text = _folded(value)
    if text in ("true", "false") and len(labels) == 2:
        return int(text == "true")
    index = int(text) if text.isdecimal() and text.isascii() else -1
    return index if 0 <= index < len(labels) else None


def _folded(value: object) -> str:
    text = normalize("NFC", str(value)).strip().casefold()
    match = _WHOLE.fullmatch(text)
    return str(int(match[1])) if match else text


def _two_readings(value: object, row: int, labels: Sequence[str], name: Any, place: Any) -> DataError:
    return DataError(
        f"The labels of the data are numbers that could be names or places: {value!r} in row {row} is the "
        f"label {labels[name]!r} by name, and {labels[place]!r} as a place (of {listed(labels)}).",
        hint=_HINT,
    )
