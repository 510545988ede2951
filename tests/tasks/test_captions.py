"""Recall by captions: equal to a plain computation over transformers' features."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.errors import DataError
from optkit.models.checkpoint import fetch
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks import captions
from optkit.tasks.base import Columns, open_task
from tests.tasks.towers import two_towers

WORDS = ("film", "plot", "cast", "good", "bad", "dull", "bright", "fine", "thin", "very", "not", "one")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Twelve images with one to three captions each; one caption belongs to two of them."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = []
    for i, word in enumerate(WORDS):
        file = str(folder / f"{i}.png")
        Image.fromarray(random.integers(0, 256, (20, 30 + i, 3), dtype=np.uint8)).save(file)
        rows += [{"image": file, "caption": f"a {word} {other}"} for other in WORDS[i : i + 1 + i % 3]]
    return [*rows, {"image": rows[0]["image"], "caption": rows[-1]["caption"]}]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_recall_is_that_of_transformers_features(kind, rows, tmp_path):
    import torch
    import transformers

    folder = two_towers(tmp_path / "m", kind)
    model = transformers.AutoModel.from_pretrained(str(folder)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder))
    images = list(dict.fromkeys(row["image"] for row in rows))
    texts = list(dict.fromkeys(row["caption"] for row in rows))
    padding = {"padding": "max_length", "max_length": 64} if kind == "siglip" else {"padding": True}
    with torch.inference_mode():
        pixels = processor([Image.open(file) for file in images], return_tensors="pt")
        seen = model.get_image_features(**pixels).pooler_output.numpy()
        read = model.get_text_features(
            **tokenizer(texts, return_tensors="pt", **padding)
        ).pooler_output.numpy()
    seen, read = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (seen, read))
    belong = np.zeros((len(images), len(texts)), dtype=bool)
    for row in rows:
        belong[images.index(row["image"]), texts.index(row["caption"])] = True

    source = fetch(folder)
    for metric in captions.METRICS:
        way, most = metric.split("_recall@")
        near, right = (seen @ read.T, belong) if way == "image_to_text" else (read @ seen.T, belong.T)
        top = np.argsort(-near, axis=1)[:, : int(most)]
        expected = np.take_along_axis(right, top, axis=1).any(axis=1).mean()
        task = open_task(source, metric=metric)
        labelled = task.read(Dataset.from_list(rows), Columns())
        with open_session(source) as session:
            answers = task.answers(infer_all(session, labelled.encoded, 8, 512))
        assert task.score(answers, labelled.references) == pytest.approx(expected, abs=1e-5), metric
        assert len(task.outcomes(answers, labelled.references)) == len(near)
    np.testing.assert_allclose(captions.unit(answers), np.concatenate([seen, read]), atol=1e-5)
    lines = {line.label: line for line in task.table(answers, labelled.references)}
    assert lines["text to image"].recall_at_10 == pytest.approx(expected)
    theirs = REFERENCES[task.reference](folder)
    outputs = theirs.outputs(theirs.rows(labelled.inputs), labelled.inputs)
    assert theirs.answers(outputs, labelled.inputs) is None
    np.testing.assert_allclose(task.answers(outputs), answers, atol=1e-4)


def test_vectors_that_are_all_the_same_find_nothing():
    inputs, references = captions.members([("a.png", "x"), ("b.png", ["y", "z"]), ("a.png", "z")], "caption")
    assert inputs == ["a.png", "b.png", {"text": "x"}, {"text": "y"}, {"text": "z"}]
    assert [sorted(one.partners) for one in references] == [[0, 2], [1, 2], [0], [1], [0, 1]]
    assert captions.hits("image_to_text_recall@1", np.ones((5, 4)), references).tolist() == [False, False]
    apart = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 1]], dtype=np.float32)
    assert captions.hits("text_to_image_recall@1", apart, references).tolist() == [True, True, True]


def test_what_is_no_caption_is_refused(rows, tmp_path):
    with pytest.raises(
        DataError, match="caption or several in column 'caption', row 1, received 3"
    ) as refused:
        captions.members([("a.png", "x"), ("b.png", 3)], "caption")
    assert "--label-column" in refused.value.hint
    task = open_task(fetch(two_towers(tmp_path / "m")))
    with pytest.raises(DataError, match="received captions") as refused:
        task.read(Dataset.from_list(rows), Columns())
    assert "--metric image_to_text_recall@1" in refused.value.hint
