from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from optkit.benchmarking.evaluation import MOST_DRAWN, Evaluator
from optkit.benchmarking.plan import Plan, Shape
from optkit.core.schema.base import check
from optkit.core.schema.report import Flip
from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.models.checkpoint import fetch
from optkit.tasks import drawings
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import digits_data, vit
from tests.tasks.pictures import detector, masks_data, segmenter, shapes_data


def shown(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["jpeg"]))).convert("RGB")).astype(int)


@pytest.mark.parametrize("size", [(3000, 1000), (8, 6), (240, 240)])
def test_pictures_are_small_and_none_is_too_small_to_be_seen(size):
    image, given = drawings.thumbnail(np.full((*size[::-1], 3), 128, dtype=np.uint8))
    assert given == size
    assert drawings.SIDE / 2 < max(image.size) <= drawings.SIDE


def test_boxes_lie_where_they_are_in_the_image():
    image, size = drawings.thumbnail(np.zeros((400, 800, 3), dtype=np.uint8))
    boxes = np.array([[1, 200, 100, 600, 300], [0, -5000, 0, 1e9, 10]])
    drawn = np.asarray(drawings.with_boxes(image, size, boxes, np.array([True, False])))
    assert drawn.shape == (120, 240, 3)
    assert tuple(drawn[60, 60]) == tuple(drawn[30, 120]) == drawings.color(1)
    assert tuple(drawn[60, 120]) == (0, 0, 0)


def test_masks_differ_where_they_do():
    mask = np.zeros((60, 80), dtype=np.uint8)
    other = mask.copy()
    other[:, :40] = 1
    pictures = drawings.masks(np.zeros((60, 80, 3), dtype=np.uint8), {"baseline": mask, "this model": other})
    assert [picture["caption"] for picture in pictures] == ["baseline", "this model", "where they differ"]
    marked = shown(pictures[-1])
    assert marked[90, 60].sum() > 300
    assert marked[90, 180].sum() < 60


def flips_of(task, data, before, after):
    """Where each image has the outputs `before`, and then `after`."""
    labelled = task.read(Data(str(data)).split("validation"), Columns())
    carried = labelled.encoded.windows.carried if labelled.encoded.windows else {}
    count = len(labelled.references)
    outputs = [{**{name: [row] * count for name, row in one.items()}, **carried} for one in (before, after)]
    return Evaluator(task, labelled, data / "encoded.npz", Plan((Shape(1, "data"),))).flips(*outputs)


def checked(flips, captions):
    """The first of them, each as a report holds it, with these pictures and a key."""
    assert all(check(Flip, flip, "flip", DataError) for flip in flips)
    assert [len(flip.get("pictures", ())) for flip in flips] == [
        len(captions) if i < MOST_DRAWN else 0 for i in range(len(flips))
    ]
    assert [picture["caption"] for picture in flips[0]["pictures"]] == captions
    return flips[0]


def test_a_box_that_moved_is_shown_though_its_label_is_the_same(tmp_path):
    task = open_task(fetch(detector(tmp_path / "model")))
    data = shapes_data(tmp_path / "data", {"train": 1, "validation": 14})
    logits = np.array([[9.0, 0, 0]] + [[0, 0, 9.0]] * 8, dtype=np.float32)
    before, after = (np.full((9, 4), share, dtype=np.float32) for share in (0.3, 0.5))
    flips = flips_of(task, data, *({"logits": logits, "pred_boxes": boxes} for boxes in (before, after)))
    flip = checked(flips, ["labelled", "baseline", "this model"])
    assert (flip["reference"], flip["baseline"], flip["candidate"]) == (None, ["disc"], ["disc"])
    assert {"color": "#f24918", "label": "disc"} in flip["key"]


def test_masks_that_changed_are_shown(tmp_path):
    task = open_task(fetch(segmenter(tmp_path / "model")))
    data = masks_data(tmp_path / "data", {"train": 1, "validation": 2})
    before = np.zeros((3, 8, 8), dtype=np.float32)
    before[0] = 1
    after = before.copy()
    after[1, :4] = 2
    flips = flips_of(task, data, {"logits": before}, {"logits": after})
    flip = checked(flips, ["labelled", "baseline", "this model", "where they differ"])
    assert [one["label"] for one in flip["key"][:2]] == ["ground", "disc"]


def test_an_image_whose_class_changed_is_shown(tmp_path):
    task = open_task(fetch(vit(tmp_path / "model")))
    data = digits_data(tmp_path / "data", 10, 10)
    before, after = np.eye(len(task.labels), dtype=np.float32)[:2]
    flip = checked(flips_of(task, data, {"logits": before}, {"logits": after}), [""])
    assert "key" not in flip
