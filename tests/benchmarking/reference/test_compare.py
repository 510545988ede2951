"""A difference between ours and transformers' is an error with the first example, or a doubt that says it."""

from __future__ import annotations

import numpy as np
import pytest

from optkit.benchmarking.reference import compare
from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, PassError
from optkit.tasks.base import open_task
from tests.benchmarking.reference.models import model
from tests.tasks.builders import vit

TEXTS = ["the plot is thin", "fine film", "the"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """transformers' side and our task, of one folder."""
    folder = model(tmp_path_factory.mktemp("m"), "bert", "bert", "text-classification")
    return REFERENCES["text-classification"](folder), open_task(Artifact.open(folder))


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids"])
def test_another_id_mask_or_type_is_an_error_with_the_first_text(name, both):
    theirs, task = both
    rows, arrays = theirs.rows(TEXTS), dict(task.encode(TEXTS).arrays)
    compare.rows(rows, arrays, TEXTS, theirs)
    changed = [row.copy() for row in arrays[name]]
    changed[1][1] = 1 - changed[1][1] if name != "input_ids" else changed[1][1] + 1
    with pytest.raises(CheckpointError, match=f"reads 'fine film' otherwise than transformers: {name} "):
        compare.rows(rows, {**arrays, name: changed}, TEXTS, theirs)


def test_a_row_too_many_or_too_few_is_an_error(both):
    theirs, task = both
    rows, arrays = theirs.rows(TEXTS), task.encode(TEXTS).arrays
    short = {name: values[:2] for name, values in arrays.items()}
    with pytest.raises(CheckpointError, match="'the' otherwise than transformers.*only transformers cuts"):
        compare.rows(rows, short, TEXTS, theirs)


def test_an_encoder_that_reads_provoking_texts_otherwise_is_found(both, monkeypatch):
    theirs, task = both
    compare.provoked(theirs, task)
    encode = type(task.encoder).encode
    monkeypatch.setattr(
        type(task.encoder), "encode", lambda self, texts: encode(self, [_stripped(x) for x in texts])
    )
    with pytest.raises(CheckpointError, match="otherwise than transformers: input_ids"):
        compare.provoked(theirs, task)


def _stripped(item):
    return item.replace("film", "") if isinstance(item, str) else tuple(x.replace("film", "") for x in item)


def test_another_answer_from_the_same_outputs_is_an_error(both, monkeypatch):
    theirs, task = both
    outputs = theirs.outputs(theirs.rows(TEXTS), TEXTS)
    compare.answers(theirs, task, outputs, TEXTS)
    right = task.answers(outputs)
    monkeypatch.setattr(type(task), "answers", lambda self, given: (right + 1) % 3)
    with pytest.raises(PassError, match="Expected the answer .* to 'the plot is thin', as transformers"):
        compare.answers(theirs, task, outputs, TEXTS)


def test_outputs_that_differ_are_asked_again_alone(both):
    """Where transformers itself depends on the batch, or draws, a doubt says so; else it is an error."""
    right = {"logits": [np.array([1.0, 2.0]), np.array([3.0, 4.0])]}
    ours = {"logits": [right["logits"][0], np.array([3.0, 4.5])]}
    assert compare.outputs(right, right, lambda i: []) == []
    with pytest.raises(PassError, match=r"answers example 1 otherwise.*logits \[3, 4.5\].*expected \[3, 4\]"):
        compare.outputs(right, ours, lambda i: [{"logits": [right["logits"][i]]}] * 2)
    [doubt] = compare.outputs(right, ours, lambda i: [{"logits": [ours["logits"][i]]}] * 2)
    assert "depend on what an example is padded with: 1 of 2" in doubt
    drawn = iter([1.0, 2.0])
    [doubt] = compare.outputs(right, ours, lambda i: [{"logits": [np.array([x, x])]} for x in drawn])
    assert "draws at random" in doubt


def test_other_pixels_are_an_error_with_what_the_image_is(tmp_path, monkeypatch):
    folder = vit(tmp_path / "vit", channels=3)
    theirs, task = REFERENCES["image-classification"](folder), open_task(Artifact.open(folder))
    compare.provoked(theirs, task)
    read = type(task.encoder).read

    def turned(self, item, place):
        pixels, size = read(self, item, place)
        return pixels[::-1], size

    monkeypatch.setattr(type(task.encoder), "read", turned)
    with pytest.raises(CheckpointError, match="other pixel_values of a provoking file"):
        compare.provoked(theirs, task)
