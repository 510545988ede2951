from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from optkit.tasks.average_precision import match, mean_precision


def _random(seed, images=12, kinds=3):
    """Objects, some of them crowds, and detections near some of them."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(images):
        corner = random.uniform(0, 80, (random.integers(0, 6), 2))
        objects = np.concatenate([corner, corner + random.uniform(5, 40, corner.shape)], axis=1)
        kind = random.integers(0, kinds, (len(objects), 1))
        crowd = random.random((len(objects), 1)) < 0.2
        near = objects + random.normal(0, 3, objects.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        noise = random.uniform(0, 50, (4, 2))
        boxes = np.concatenate([near, np.concatenate([noise, noise + 20], axis=1)])
        named = np.concatenate([kind, random.integers(0, kinds, (4, 1))])
        score = random.random((len(boxes), 1)).round(1)  # some are equal
        pairs.append(
            (np.concatenate([named, score, boxes], axis=1), np.concatenate([kind, objects, crowd], axis=1))
        )
    return pairs


def _coco(pairs):
    """The same by COCOeval from end to end: (map, map at 0.5)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    kinds = sorted({int(row[0]) for pair in pairs for rows in pair for row in rows})
    annotations, results = [], []
    for image, (detections, objects) in enumerate(pairs):
        for kind, x0, y0, x1, y1, crowd in objects.tolist():
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(crowd)}
            own = {"id": len(annotations) + 1, "image_id": image, "category_id": int(kind)}
            annotations.append(box | own)
        for kind, score, x0, y0, x1, y1 in detections.tolist():
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            results.append({"image_id": image, "category_id": int(kind), **box})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(len(pairs))],
            "categories": [{"id": k} for k in kinds],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:2]


@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_pycocotools(seed):
    pairs = _random(seed)
    matched = [match(*pair) for pair in pairs]
    whole, half = _coco(pairs)
    assert 0.02 < whole < half < 1
    assert mean_precision(matched) == pytest.approx(whole, abs=1e-12)
    assert mean_precision(matched, slice(1)) == pytest.approx(half, abs=1e-12)


def test_nothing_to_find_is_no_number_and_nothing_found_is_0():
    nothing = np.zeros((0, 6))
    one = np.array([[0, 0.5, 0, 0, 5, 5]])
    assert np.isnan(mean_precision([match(one, nothing)]))
    assert mean_precision([match(nothing, np.array([[0, 0, 0, 5, 5, 0]]))]) == 0
