from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from optkit.data.dataset import Data
from optkit.errors import DataError


def _coco(folder, **changes):
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(folder / "images" / "a.png")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(folder / "images" / "b.png")
    whole = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2.5], "iscrowd": 1},
        ],
    }
    (folder / "annotations.json").write_text(json.dumps({**whole, **changes}))
    return folder


def test_coco_in_folders_of_splits_alone_and_as_a_file(tmp_path):
    data = tmp_path / "data"
    _coco(data / "train"), _coco(data / "valid")
    rows = Data(str(data)).split("train")
    objects = {"bbox": [[1, 2, 3, 4], [0, 0, 2, 2.5]], "category": ["dog", "cat"], "iscrowd": [0, 1]}
    assert rows[0] == {"image": str((data / "train" / "images" / "a.png").resolve()), "objects": objects}
    assert rows[1]["objects"] == {"bbox": [], "category": [], "iscrowd": []}
    assert Data(str(data)).splits == ["train", "validation"]
    assert Data(str(data / "train")).splits == ["all"]
    assert len(Data(str(data / "valid" / "annotations.json")).whole("all")) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 7, "file_name": "c.png"}]}, "image 'c.png' beside its annotations, for image 7"),
        ({"images": [{"id": 7, "file_name": "../a.png"}]}, "image '../a.png' beside"),
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "ids of their own"),
        (
            {"annotations": [{"image_id": 9, "category_id": 5, "bbox": [0] * 4}]},
            "known image_id in annotation 0",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 2, "bbox": [0] * 4}]},
            "known category_id in annotation 0",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 5}]}, "a bbox in annotation 0"),
        ({"annotations": 3}, "list 'annotations' of objects"),
        ({"categories": [{"id": 1}]}, "an id and a name for each category"),
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "cat"}]},
            "different names",
        ),
    ],
)
def test_each_fault_of_a_coco_file_has_its_own_words(changes, said, tmp_path):
    data = _coco(tmp_path / "data", **changes)
    with pytest.raises(DataError, match=said):
        Data(str(data)).whole("all")


def _voc(folder, body="", name="a"):
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
    box = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>4</ymax>"
    body = body or f"<object><name>cat</name><difficult>1</difficult><bndbox>{box}</bndbox></object>"
    (folder / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><filename>{name}.jpg</filename>{body}</annotation>"
    )
    return folder


def test_pascal_voc_by_its_lists_and_without(tmp_path):
    data = _voc(_voc(tmp_path / "data"), name="b")
    assert Data(str(data)).splits == ["all"]
    (data / "ImageSets" / "Main" / "train.txt").write_text("b\n")
    (data / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    source = Data(str(data))
    assert source.splits == ["train", "validation"]
    row = source.split("train")[0]
    assert row["image"].endswith("JPEGImages/b.jpg")
    assert row["objects"] == {"bbox": [[0, 1, 9, 3]], "category": ["cat"], "iscrowd": [1]}
    before = source.fingerprint("train")
    _voc(data, "<object/>", "b")
    assert source.fingerprint("train") != before
    with pytest.raises(DataError, match=r"b.xml' is no annotation of Pascal VOC"):
        source.split("train")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "plain XML"),
        ("<annotation>", "no annotation of Pascal VOC"),
        ("<annotation><filename>c.jpg</filename></annotation>", "image 'c.jpg' beside"),
    ],
)
def test_xml_that_is_none_is_refused(text, said, tmp_path):
    data = _voc(tmp_path / "data")
    (data / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(DataError, match=said):
        Data(str(data)).whole("all")
