"""Inputs in place of data: two parts that share nothing, from a file or built in."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.benchmarking.stored_answers import inputs_for
from optkit.benchmarking.unlabelled import built_in_for, read
from optkit.data import built_in
from optkit.errors import DataError
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, open_task
from tests.models.build import build
from tests.models.families import FAMILIES


@pytest.fixture(scope="module")
def task(checkpoint):
    return open_task(fetch(checkpoint))


def test_built_in_texts_are_of_many_scripts_and_lengths_and_always_the_same():
    texts = built_in.measured()
    assert texts == built_in.measured()
    assert 250 < len(texts) < 400
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] == 1
    assert lengths[-1] > 400
    whole = "".join([*texts, *built_in.calibration()])
    for one in "éßЖλאعहবதไ你あ한😀":
        assert one in whole


def test_what_is_calibrated_on_is_not_what_is_compared():
    lines = {line for text in built_in.calibration() for line in [text]}
    assert not {x for x in lines if " " in x} & set(built_in.measured())


def test_built_in_inputs_are_split_and_counted(task):
    found = built_in_for(task, limit=21)
    assert len(found.measured) == 20
    assert found.fingerprint("train") != found.fingerprint("validation")
    labelled = found.labelled(task)
    assert len(labelled.encoded) == 20
    assert set(labelled.references) == {None}


def test_built_in_texts_of_no_token_are_left_out(tmp_path):
    """A tokenizer that puts nothing around a text makes no token of a word that it does not know."""
    (family,) = [family for family in FAMILIES if family.name == "GPT-2"]
    task = open_task(fetch(build(family, "text-classification", tmp_path / "checkpoint")))
    texts = built_in_for(task)
    assert 0 < len(texts.measured) < len(built_in.measured())
    assert texts.name.startswith("built-in texts (but ")
    assert min(texts.labelled(task).encoded.lengths) > 0
    assert len(inputs_for(task, 1)) == 3


def test_labels_that_only_pairs_have_ask_for_pairs(make_checkpoint):
    pairs = open_task(fetch(make_checkpoint("bert", labels=("contradiction", "entailment"))))
    found = built_in_for(pairs)
    kinds = {type(x) for x in found.measured}
    assert kinds == {str, tuple}
    assert len(found.labelled(pairs).encoded) == len(found.measured)


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".csv"])
def test_texts_of_a_file(task, tmp_path, ending):
    texts = [f"text number {i}" for i in range(40)]
    file = tmp_path / f"texts{ending}"
    if ending == ".txt":
        file.write_text("\n".join(texts))
    elif ending == ".jsonl":
        file.write_text("".join(json.dumps({"text": x}) + "\n" for x in texts))
    else:
        file.write_text("text\n" + "\n".join(texts) + "\n")
    found = read(str(file), task, Columns())
    assert len(found.calibration) == 13
    assert not set(found.calibration) & set(found.measured)
    assert len(found.measured) == 26


def test_too_few_texts_are_refused(task, tmp_path):
    (tmp_path / "x.txt").write_text("one\ntwo\ntwo\n")
    with pytest.raises(DataError, match="at least three different texts"):
        read(str(tmp_path / "x.txt"), task, Columns())


def test_pictures_are_the_same_each_time():
    from optkit.tasks.images import picture

    assert np.array_equal(picture(3, 3), picture(3, 3))
    assert not np.array_equal(picture(3, 3)[:20, :20], picture(4, 3)[:20, :20])
    assert picture(3, 1).ndim == 2
