from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from optkit.data.dataset import Data
from optkit.errors import DataError
from optkit.models.checkpoint import fetch
from optkit.models.pixels import PixelEncoder
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.tasks.pictures import detector, drawn_shapes, shapes_data


@pytest.fixture(scope="module")
def yolos(tmp_path_factory):
    return open_task(fetch(detector(tmp_path_factory.mktemp("yolos") / "model")))


def test_boxes_are_those_of_transformers_pipeline_in_torch_and_as_a_graph(tmp_path):
    """Images of several sizes, each with its own answer, whatever shares its batch.

    Other detectors: `python benchmarks/models.py`.
    """
    import transformers

    checkpoint = detector(tmp_path / "model", "detr")
    task = open_task(fetch(checkpoint))
    pictures = [Image.fromarray(x["pixels"]) for x in drawn_shapes(3, varied=True)] * 2
    theirs = transformers.pipeline("object-detection", str(checkpoint), threshold=0.0)
    expected = theirs(pictures[:3])
    final = apply(make("export-onnx", {}), fetch(checkpoint), tmp_path / "onnx", make_context(task))
    for artifact in (fetch(checkpoint), final):
        with open_session(artifact) as session:
            answers = task.answers(infer_all(session, task.encode(pictures), 8, 512))
        for one, right in zip(answers, expected * 2, strict=True):
            right = sorted(right, key=lambda x: -x["score"])
            assert np.allclose(one[:, 1], [x["score"] for x in right], atol=1e-4)
            named = sorted((task.labels[int(row[0])], *(int(v) for v in row[2:] + 1e-3)) for row in one)
            told = sorted((x["label"], *x["box"].values()) for x in right)
            assert len(named) == len(told)
            close = [a[0] == b[0] and np.allclose(a[1:], b[1:], atol=1) for a, b in zip(named, told)]
            assert np.mean(close) > 0.9  # a box at the edge of a pixel is cut to another whole number


SIZES = ((20, 30), (30, 20), (64, 64), (64, 300), (300, 62), (66, 94), (96, 64))


@pytest.mark.parametrize("kind", ["Yolos", "Detr", "RTDetr"])
def test_pixels_are_those_of_transformers_processor(kind, tmp_path):
    import transformers

    (tmp_path / "config.json").write_text('{"model_type": "yolos", "image_size": [8, 8]}')
    for size in (None, {"shortest_edge": 64, "longest_edge": 96}, {"max_height": 80, "max_width": 128}):
        change = {"do_resize": False} if size is None else {"size": size}
        settings = {"image_processor_type": f"{kind}ImageProcessor", **change}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
        theirs = transformers.AutoImageProcessor.from_pretrained(str(tmp_path))
        encoder = PixelEncoder(tmp_path)
        for given in SIZES:
            pixels = np.random.default_rng(0).integers(0, 256, (*given, 3), dtype=np.uint8)
            right = theirs(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
            own = encoder.encode([pixels]).arrays["pixel_values"][0]
            assert own.shape == right.shape
            assert np.allclose(own, right, atol=1e-4)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({"bbox": [[40, 0, 30, 10]], "category": ["disc"]}, "inside of the image, 64 x 48 pixels.*row 1"),
        ({"bbox": [[0, 0, -3, 10]], "category": ["disc"]}, "width and a height above 0.*row 1"),
        ({"bbox": [[0, 0, 3]], "category": ["disc"]}, "four numbers.*row 1"),
        ({"bbox": [[0, 0, 3, float("nan")]], "category": ["disc"]}, "four numbers.*row 1"),
        ({"bbox": [[0, 0, 3, 3]], "category": ["cat"]}, "cat"),
        ({"bbox": [[0, 0, 3, 3]], "category": []}, "a category for each of 1 boxes in row 1"),
        ({"category": ["disc"]}, "bbox and category among the objects of row 1"),
        ("nothing", "objects with boxes and categories in row 1"),
    ],
)
def test_each_fault_of_the_data_has_its_own_words(objects, said, yolos):
    import datasets

    image = Image.fromarray(np.zeros((48, 64, 3), dtype=np.uint8))
    right = {"bbox": [[1, 2, 3, 4]], "category": ["square"]}

    class Rows(list):
        column_names, features = ["image", "objects"], {}

        def __getitem__(self, name):
            return {"image": [image, image], "objects": [right, objects]}[name]

    assert datasets
    with pytest.raises(DataError, match=said):
        yolos.read(Rows(), Columns())


def test_crowds_and_lists_of_objects_are_read(yolos, tmp_path):
    data = shapes_data(tmp_path / "data", {"train": 2, "validation": 1})
    file = data / "validation" / "metadata.jsonl"
    row = {"file_name": "0.png", "objects": [{"bbox": [1, 1, 5, 5], "category": "disc", "iscrowd": 1}]}
    file.write_text(json.dumps(row) + "\n")
    labelled = yolos.read(Data(str(data)).split("validation"), Columns())
    assert labelled.references[0].tolist() == [[0, 1, 1, 6, 6, 1]]
    assert len(yolos.targets(labelled)["labels"][0]) == 0  # a crowd is not learned from


def test_training_pads_a_batch_and_says_what_share_of_it_an_image_is(yolos, tmp_path):
    data = shapes_data(tmp_path / "data", {"train": 4}, varied=True)
    labelled = yolos.read(Data(str(data)).whole("train"), Columns())
    batch = yolos.collate(labelled.encoded, yolos.targets(labelled), range(4))
    height, width = batch["pixel_values"].shape[2:]
    for i, reference in enumerate(labelled.references):
        own = labelled.encoded.arrays["pixel_values"][i].shape[1:]
        assert batch["pixel_mask"][i].sum() == own[0] * own[1]
        assert batch["labels"][i, 0, 1:3].tolist() == pytest.approx([own[1] / width, own[0] / height])
        back = batch["labels"][i, 1 : 1 + len(reference), 1:] / batch["labels"][i, 0, 1:]
        size = labelled.encoded.windows.carried["size"][i][::-1]
        middle = (reference[:, 1:3] + reference[:, 3:5]) / 2 / size
        assert np.allclose(back[:, :2], middle, atol=1e-5)


def test_agreement_asks_for_boxes_that_cover_each_other(yolos):
    rows = np.array([[0, 0.9, 0, 0, 10, 10], [1, 0.8, 20, 20, 30, 30], [0, 0.1, 0, 0, 5, 5]])
    near, far = (rows + np.array(moved) for moved in ([0, -0.01, 0.2, 0, 0.2, 0], [0, 0, 3, 0, 3, 0]))

    def answer(values):
        one = np.empty(1, dtype=object)
        one[0] = values
        return one

    assert yolos.agreement(answer(rows), answer(near)) == 1
    assert yolos.agreement(answer(rows), answer(far)) == 0
    assert yolos.agreement(answer(rows), answer(rows[:1])) == 0
