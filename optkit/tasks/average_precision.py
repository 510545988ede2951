"""Mean average precision of boxes, as COCO defines it: pycocotools matches, image by image.

What is matched in one image does not depend on the others, so that it is asked once, and a bootstrap over
images only counts anew. `mean_precision` equals `COCOeval.accumulate` of the same library, in numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from optkit.errors import MissingDependency

#: As COCO's: IoU thresholds, places on the recall axis, detections per image and class.
IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100


@dataclass(frozen=True)
class Matched:
    """What became of one image's detections of one class: `scores` (n,), and by IoU threshold `right` and
    `ignored` (10, n), bool; `objects` is how many there are to find."""

    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    objects: int


def match(detections: np.ndarray, objects: np.ndarray) -> dict[int, Matched]:
    """Class → what became of it in one image.

    `detections` (n, 6): class, score, x0, y0, x1, y1; `objects` (m, 6): class, x0, y0, x1, y1, and 1 for a
    crowd, in which any number may be found and none has to. Raises MissingDependency.
    """
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as reason:
        raise MissingDependency.of("pycocotools", "detection") from reason
    evaluation = COCOeval(iouType="bbox")
    everything = [0.0, 1e10]
    evaluation.params.maxDets, evaluation.params.areaRng = [MOST], [everything]
    for index, (kind, x0, y0, x1, y1, crowd) in enumerate(objects.tolist()):
        box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "id": index + 1}
        evaluation._gts[0, int(kind)].append({**box, "iscrowd": int(crowd), "ignore": int(crowd)})
    for index, (kind, score, x0, y0, x1, y1) in enumerate(detections.tolist()):
        box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "id": index + 1}
        evaluation._dts[0, int(kind)].append({**box, "score": score})
    matched = {}
    for kind in sorted({key for _, key in (*evaluation._gts, *evaluation._dts)}):
        evaluation.ious = {(0, kind): evaluation.computeIoU(0, kind)}
        one = evaluation.evaluateImg(0, kind, everything, MOST)
        right = one["dtMatches"] > 0
        ignored = one["dtIgnore"].astype(bool)
        matched[kind] = Matched(
            np.array(one["dtScores"]), right, ignored, int(np.sum(np.array(one["gtIgnore"]) == 0))
        )
    return matched


def mean_precision(images: Iterable[Mapping[int, Matched]], ious: slice = slice(None)) -> float:
    """The mean over classes, the thresholds `ious` and 101 recalls of the precision; NaN for no objects."""
    by_class: dict[int, list[Matched]] = {}
    for image in images:
        for kind, one in image.items():
            by_class.setdefault(kind, []).append(one)
    values = [
        _precision(matches)[ious] for matches in by_class.values() if sum(one.objects for one in matches)
    ]
    return float(np.mean(values)) if values else float("nan")


def _precision(matches: list[Matched]) -> np.ndarray:
    """Of one class, at each IoU threshold. Shape (10,)."""
    order = np.argsort(-np.concatenate([one.scores for one in matches]), kind="mergesort")
    ignored = np.concatenate([one.ignored for one in matches], axis=1)[:, order]
    right = np.concatenate([one.right for one in matches], axis=1)[:, order]
    true = np.cumsum(right & ~ignored, axis=1).astype(float)
    false = np.cumsum(~right & ~ignored, axis=1)
    recall = true / sum(one.objects for one in matches)
    precision = true / (true + false + np.spacing(1))
    # From the right: the best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    return np.array([row[np.searchsorted(r, RECALLS)].mean() for row, r in zip(padded, recall)])
