"""Images and their captions by their vectors: recall both ways, as papers on CLIP and SigLIP report it.

Every different image of the data is looked for among all of them by each different caption, and the other
way round: a query is answered where one of those that belong to it is among the nearest, by the cosine.
Source: Karpathy and Fei-Fei 2015; Radford et al. 2021.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from optkit.errors import DataError
from optkit.runtimes.towers import unit
from optkit.tasks.labelled import Input

#: Columns that hold the caption of an image, or several.
COLUMNS = ("caption", "captions", "text", "sentences", "description")
_WAYS, _MOST = ("image_to_text", "text_to_image"), (1, 5, 10)
METRICS = tuple(f"{way}_recall@{most}" for way in _WAYS for most in _MOST)
#: Queries that are compared with all others at a time; cosines as near as this are equal.
_AT_ONCE, _EQUAL = 256, 1e-6


@dataclass(frozen=True)
class Member:
    """An image or a caption of the data: its number among its kind, and those of the other kind that belong
    to it."""

    is_image: bool
    number: int
    partners: frozenset[int]


@dataclass(frozen=True)
class Line:
    """Recall one way; `support` counts the queries."""

    label: str
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    support: int


def members(rows: Iterable[tuple[Input, object]], name: str) -> tuple[list[Input], list[Member]]:
    """The different images of `rows`, then their different captions, from column `name`, as inputs, and what
    belongs together. Raises DataError for what is no text."""
    images: dict[object, tuple[int, Input]] = {}
    captions: dict[object, int] = {}
    pairs: set[tuple[int, int]] = set()
    for row, (image, told) in enumerate(rows):
        texts = told if isinstance(told, list) else [told]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"Expected a caption or several in column {name!r}, row {row}, received {told!r:.100}.",
                hint="Name the right column with --label-column.",
            )
        key: object = image if isinstance(image, str | bytes) else (row, "of no name")
        if isinstance(image, dict):
            key = image.get("bytes") or image.get("path")
        number, _ = images.setdefault(key, (len(images), image))
        pairs |= {(number, captions.setdefault(text, len(captions))) for text in texts}
    belong = [[set[int]() for _ in kind] for kind in (images, captions)]
    for image_number, caption in pairs:
        belong[0][image_number].add(caption)
        belong[1][caption].add(image_number)
    inputs = [*(image for _, image in images.values()), *({"text": text} for text in captions)]
    kinds = zip((True, False), belong)
    return inputs, [Member(kind, i, frozenset(x)) for kind, sets in kinds for i, x in enumerate(sets)]


def hits(metric: str, vectors: np.ndarray, references: Sequence[Member]) -> np.ndarray:
    """Whether each query finds one that belongs to it, (queries,) bool, of `vectors` (members, width).

    What is as near as that stands before it, so that vectors which are all the same find nothing.
    """
    way, _, most = metric.partition("_recall@")
    of_images = way == _WAYS[0]
    places = [i for i, one in enumerate(references) if one.is_image == of_images]
    others = {one.number: i for i, one in enumerate(references) if one.is_image != of_images}
    among = unit(vectors[list(others.values())].astype(np.float64))
    where = {number: column for column, number in enumerate(others)}
    found: list[bool] = []
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        for row, near in zip(part, unit(vectors[part].astype(np.float64)) @ among.T):
            own = [where[number] for number in references[row].partners if number in where]
            rivals = np.delete(near, own)
            found.append(bool(own) and int((rivals >= near[own].max() - _EQUAL).sum()) < int(most))
    return np.array(found, dtype=bool)


def table(vectors: np.ndarray, references: Sequence[Member]) -> list[Line]:
    """A line for each way."""
    lines = []
    for way in _WAYS:
        shares = [hits(f"{way}_recall@{most}", vectors, references) for most in _MOST]
        first, fifth, tenth = (float(share.mean()) for share in shares)
        lines.append(Line(way.replace("_", " "), first, fifth, tenth, len(shares[0])))
    return lines
