"""What a column of labels holds: a label per row, several, flags, numbers; and the labels of config.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optkit.data.columns import class_names
from optkit.errors import CheckpointError, DataError
from optkit.tasks.label_mapping import label_name, number

if TYPE_CHECKING:
    import datasets


#: What transformers calls a label per example, several, and a number.
SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def labels_config(labels: Sequence[str]) -> dict[str, Any]:
    """config.json's keys for these labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def labels_of(config: dict[str, Any]) -> list[str]:
    """The labels of config.json, by index; [] where it names none. Raises CheckpointError for a gap."""
    id2label = config.get("id2label") or {}
    try:
        return [id2label[str(i)] for i in range(len(id2label))]
    except KeyError as missing:
        raise CheckpointError(f"id2label in config.json has no entry {missing}; it has {id2label}.") from None


def labels_and_problem(rows: datasets.Dataset, name: str) -> tuple[list[str], str]:
    """Label names in order (numbers by size), and the problem type that the values of column `name` imply."""
    values = list(rows[name])
    missing = next((i for i, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise DataError(f"Expected a label in column {name!r}, row {missing}, received none.")
    names = class_names(rows.features.get(name))
    if isinstance(values[0], list):
        labels, problem = list(names or _several(values, name)), MULTI
    elif not names and _is_regression(values):
        labels, problem = ["value"], REGRESSION
    else:
        labels, problem = list(names) if names else _ordered({label_name(v) for v in values}), SINGLE
    seen = {label_name(v) for v in values} if problem != MULTI else set(labels)
    if len(seen) < 2:
        what = "numbers" if problem == REGRESSION else "classes"
        raise DataError(
            f"Expected at least two {what} in column {name!r}, received: {sorted(seen)}.",
            hint="There is nothing to learn from one; check the column and how the splits were made.",
        )
    return labels, problem


def _is_regression(values: list[Any]) -> bool:
    """Whether these are numbers, or the texts of numbers, and some have a fraction."""
    numbers = [number(value) for value in values]
    return None not in numbers and any(not float(x).is_integer() for x in numbers if x is not None)


def _several(values: list[Any], name: str) -> list[str]:
    """Labels of rows with lists: names or indices, or one 0/1 flag per label."""
    if {v for value in values for v in value} <= {0, 1} and max(map(len, values)) > 2:  # no list of indices
        count = len(values[0])
        for row, value in enumerate(values):
            if len(value) != count:
                raise DataError(
                    f"Expected {count} flags, as in row 0, in column {name!r}, row {row}, received "
                    f"{len(value)}."
                )
        return [str(i) for i in range(count)]
    return _ordered({label_name(v) for value in values for v in value})


def _ordered(labels: set[str]) -> list[str]:
    numbers = all(label.isdigit() for label in labels)
    return sorted(labels, key=int) if numbers else sorted(labels)


def are_flags(values: list[Any], name: str, labels: Sequence[str]) -> bool:
    """Whether the lists hold a 0/1 flag per label, not labels: as [0, 1] may be both, all rows decide.

    Raises DataError where they do not.
    """
    lists = [v for v in values if isinstance(v, (list, tuple))]
    flags = [v for value in lists for v in value]
    if len(lists) < len(values) or not flags or not all(v in (0, 1) for v in flags):
        return False
    count = len(labels)
    odd = next((row for row, value in enumerate(lists) if len(value) != count), None)
    twice = any(len(set(value)) < len(value) for value in lists)
    if odd is None and (twice or not all(type(v) is int for v in flags) or (count == 1 and 1 in flags)):
        return True
    if odd is not None and not twice:
        return False
    if odd is not None:
        raise DataError(
            f"Expected {count} flags, one per label, in column {name!r}, row {odd}, received {lists[odd]!r}."
        )
    raise DataError(
        f"Cannot tell whether the lists in column {name!r} hold a flag per label or the labels' numbers: "
        f"{lists[0]!r} may be both in all {len(lists)} rows.",
        hint=f"Write labels by name ({', '.join(labels)}), or flags as true and false.",
    )
