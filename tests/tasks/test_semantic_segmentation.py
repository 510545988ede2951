from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from optkit.benchmarking.reference import semantic_segmentation as reference
from optkit.data import masks
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError
from optkit.models.architectures import task_of
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks import semantic_segmentation
from optkit.tasks.base import Columns, open_task
from optkit.tasks.semantic_segmentation import largest
from tests.tasks.pictures import drawn_shapes, masks_data, segmenter

#: All of them, as graphs too: `python benchmarks/models.py`.
KINDS = ("segformer", "mask2former")


@pytest.fixture(scope="module")
def segformer(tmp_path_factory):
    return segmenter(tmp_path_factory.mktemp("segformer") / "model")


@pytest.fixture(scope="module")
def task(segformer):
    return open_task(fetch(segformer))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_those_of_transformers_in_torch_and_as_a_graph(kind, tmp_path):
    import torch
    import transformers

    folder = segmenter(tmp_path / "model", kind)
    task, pictures = (
        open_task(fetch(folder)),
        [Image.fromarray(x["pixels"]) for x in drawn_shapes(3, varied=True)],
    )
    of_queries = kind == "mask2former"
    auto = f"AutoModelFor{'Universal' if of_queries else 'Semantic'}Segmentation"
    model = getattr(transformers, auto).from_pretrained(str(folder)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder))
    expected = []
    for picture in pictures:
        with torch.inference_mode():
            answer = model(**processor(images=picture, return_tensors="pt"))
        sizes = [(picture.height, picture.width)]
        expected.append(processor.post_process_semantic_segmentation(answer, target_sizes=sizes)[0].numpy())
    both = [fetch(folder)]
    if not of_queries:
        both.append(apply(make("export-onnx", {}), both[0], tmp_path / "onnx", make_context(task)))
    for artifact in both:
        with open_session(artifact) as session:
            answers = task.answers(infer_all(session, task.encode(pictures), 8, 512))
        for own, right in zip(answers, expected, strict=True):
            assert own.shape == right.shape
            assert (own == right).mean() > 0.999  # where two classes are equal, rounding decides


@pytest.mark.parametrize("size", [(7, 9), (32, 32), (64, 31), (5, 100), (1, 1)])
def test_between_logits_it_is_torchs_interpolation(size):
    import torch

    logits = np.random.default_rng(0).normal(size=(4, 8, 6))
    tensor = torch.from_numpy(logits[None])
    drawn = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    assert (largest(logits, size) == drawn[0].argmax(dim=0).numpy()).all()


def test_stripes_of_an_image_make_the_same_mask(monkeypatch):
    """As the reference makes it, a class at a time; in a stripe only classes that can be the largest."""
    import torch

    monkeypatch.setattr(semantic_segmentation, "STRIPE", 100)
    logits = np.random.default_rng(0).normal(size=(9, 8, 6)).cumsum(axis=1)
    whole = reference._by_class(torch.from_numpy(logits[None]), (77, 64))
    assert (largest(logits, (77, 64)) == whole.numpy()).all()
    logits[3] += 100
    assert semantic_segmentation._able(logits) == [3]


@pytest.mark.parametrize("architecture", ["DetrForSegmentation", "OneFormerForUniversalSegmentation"])
def test_masks_of_queries_that_are_not_put_together_are_refused(architecture):
    config = {"architectures": [architecture], "model_type": "x"}
    with pytest.raises(CheckpointError, match=f"{architecture} answers with a mask and a class"):
        task_of(config)


def test_scores_are_those_of_scikit_learn(task):
    from sklearn.metrics import accuracy_score, jaccard_score

    random = np.random.default_rng(0)
    answers, references = np.empty(3, dtype=object), []
    for i in range(3):
        answers[i] = random.integers(0, 2, (6, 5 + i), dtype=np.uint8)  # class 2 is never found
        references.append(np.where(random.random(answers[i].shape) < 0.7, answers[i], 255).astype(np.uint8))
        references[i][0, 0] = 2 if i else 0
    truth = np.concatenate([x.reshape(-1) for x in references])
    told = np.concatenate([x.reshape(-1) for x in answers])[truth != 255]
    truth = truth[truth != 255]
    assert task.score(answers, references) == pytest.approx(jaccard_score(truth, told, average="macro"))
    by_pixel = replace(task, metric="pixel-accuracy")
    assert by_pixel.score(answers, references) == pytest.approx(accuracy_score(truth, told))


def test_a_mask_is_answered_as_a_png(task):
    logits = np.zeros((3, 2, 2), dtype=np.float32)
    logits[1, 0], logits[2, 1] = 5, 5
    answer = task.decode({"logits": [logits], "size": [np.array([4, 4])]})[0]
    assert answer.shares == {"disc": 0.5, "square": 0.5}
    described = json.loads(json.dumps(task.describe(answer)))
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(described["mask"]))))
    assert mask.tolist() == [[1] * 4] * 2 + [[2] * 4] * 2


def _mask(values, mode=None):
    image = Image.fromarray(np.asarray(values))
    return image.convert(mode) if mode else image


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (_mask(np.zeros((4, 5), np.uint8)), "4 x 6 pixels.*row 1, received 4 x 5"),
        (_mask(np.zeros((4, 6), np.uint16)), "one channel of 8 bits.*row 1, received one of mode I;16"),
        (_mask(np.zeros((4, 6), np.uint8), "RGB"), "one channel of 8 bits.*row 1, received one of mode RGB"),
        (_mask(np.full((4, 6), 3, np.uint8)), "classes 0 to 2.*row 1, received 3"),
        (b"no image", "Cannot read the mask of row 1"),
        ("absent.png", "Cannot read the mask of row 1"),
    ],
)
def test_each_fault_of_a_mask_has_its_own_words(mask, said, task):
    image, right = _mask(np.zeros((4, 6, 3), np.uint8)), _mask(np.full((4, 6), 255, np.uint8))

    class Rows(list):
        column_names, features = ["image", "mask"], {}

        def __getitem__(self, name):
            return {"image": [image, image], "mask": [right, mask]}[name]

    with pytest.raises(DataError, match=said):
        task.read(Rows(), Columns())


def test_classes_that_begin_at_1_are_moved_and_not_trained_on(segformer, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(segformer, folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_reduce_labels": True}))
    task = open_task(fetch(folder))
    assert task._mask(_mask(np.array([[0, 1, 3, 255]], np.uint8)), np.array([1, 4]), 0).tolist() == [
        [255, 0, 2, 255]
    ]
    with pytest.raises(CheckpointError, match="do_reduce_labels"):
        type(task).for_training(fetch(folder), {"id2label": {0: "a"}}, None)


def test_folders_of_images_and_masks_are_read_with_their_names(task, tmp_path):
    data = masks_data(tmp_path / "data", {"train": 3, "validation": 2}, varied=True)
    rows = Data(str(data)).split("train")
    labelled = task.read(rows, Columns())
    right = [row["mask"] for row in drawn_shapes(3, varied=True)]
    assert all((a == b).all() for a, b in zip(labelled.references, right))
    assert list(task.training_config(rows, Columns())["id2label"].values()) == ["ground", "disc", "square"]
    assert [x.shape for x in task.targets(labelled)["labels"]] == [(32, 32)] * 3
    before = Data(str(data)).fingerprint("train")
    Image.fromarray(right[0] * 0).save(data / "masks" / "train" / "0.png")
    assert Data(str(data)).fingerprint("train") != before
    (data / "masks" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match="only one of '1'"):
        Data(str(data)).split("train")
    (data / "labels.json").write_text(json.dumps({"mask": ["ground"]}))
    with pytest.raises(DataError, match="at least 3 names for 'mask'"):
        masks.names(rows, "mask", 2)
