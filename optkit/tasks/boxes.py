"""The boxes of a row of data: what the columns of data sets hold, checked against the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.errors import DataError

#: Pixels by which a box may pass the image's edge, from rounding; more is an error.
SLACK = 1.0
_BOX = ("bbox", "bboxes", "boxes")
_KIND = ("category", "categories", "label", "labels", "category_id")


def objects(value: Any, row: int) -> tuple[np.ndarray, list[Any], np.ndarray]:
    """Boxes (n, 4), classes and flags of crowds in one row: an object of lists, or a list of objects."""
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        names = {name for one in value for name in one}
        value = {name: [one.get(name) for one in value] for name in names} or {"bbox": [], "category": []}
    if not isinstance(value, Mapping):
        raise DataError(f"Expected objects with boxes and categories in row {row}, received {value!r}.")
    box, kind = (next((n for n in known if n in value), None) for known in (_BOX, _KIND))
    if box is None or kind is None:
        raise DataError(
            f"Expected bbox and category among the objects of row {row}, received {', '.join(value)}.",
            hint='As in {"bbox": [[x, y, width, height]], "category": ["cat"]}.',
        )
    boxes, kinds = list(value[box] or []), list(value[kind] or [])
    if len(boxes) != len(kinds):
        raise DataError(
            f"Expected a category for each of {len(boxes)} boxes in row {row}, received {len(kinds)}."
        )
    for one in boxes:
        numbers = (
            isinstance(one, list | tuple) and len(one) == 4 and all(isinstance(x, int | float) for x in one)
        )
        if not numbers or not np.isfinite(one).all():
            raise DataError(
                f"Expected a box of four numbers (x, y, width, height) in row {row}, received {one!r}."
            )
    crowds = [int(bool(x)) for x in value.get("iscrowd") or [0] * len(boxes)]
    return np.array(boxes, dtype=float).reshape(-1, 4), kinds, np.array(crowds, dtype=float)


def corners(boxes: np.ndarray, size: np.ndarray, row: int) -> np.ndarray:
    """Boxes (n, 4) of x, y, width, height as corners, cut at the image's edges. DataError names the row."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    most = np.tile(size[::-1], 2)
    for box, corner in zip(boxes, corners):
        shown = f"{[round(float(x), 3) for x in box]} (x, y, width, height) in row {row}"
        if (box[2:] <= 0).any():
            raise DataError(f"Expected a box with a width and a height above 0, received {shown}.")
        if (corner < -SLACK).any() or (corner > most + SLACK).any():
            raise DataError(
                f"Expected a box inside of the image, {most[0]} x {most[1]} pixels, received {shown}.",
                hint="Boxes are in pixels of the image as it is, after it was turned as its EXIF says.",
            )
    return np.clip(corners, 0, most)


def class_names(feature: object) -> list[str] | None:
    """The names of the classes that a column of `datasets` has for the objects' categories."""
    inner = getattr(feature, "feature", None) or (
        feature[0] if isinstance(feature, list) and feature else feature
    )
    if not isinstance(inner, Mapping):
        return None
    kind = next((inner[name] for name in _KIND if name in inner), None)
    return getattr(getattr(kind, "feature", kind), "names", None)
