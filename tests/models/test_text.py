"""Where long texts lose their tokens: on the side that the tokenizer's files name, as in transformers."""

from __future__ import annotations

import json

import pytest

from optkit.errors import CheckpointError, DataError
from optkit.models.text import TextEncoder
from tests.conftest import WORDS, write_tokenizer

LONG = " ".join(WORDS[i % len(WORDS)] for i in range(50))


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 16}))
    return tmp_path


def state(folder, side):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "truncation_side": side}))


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_pairs_and_windows_are_cut_as_transformers_cuts_them(side, folder):
    from transformers import AutoTokenizer

    state(folder, side)
    encoder, theirs = TextEncoder(folder), AutoTokenizer.from_pretrained(str(folder))
    for text in ((LONG,), ("a fine film", LONG), (LONG, "a fine film"), (LONG, LONG)):
        found = encoder.encode([text if len(text) == 2 else text[0]])
        assert found.truncated == 1
        expected = theirs(*text, truncation=True, max_length=16)["input_ids"]
        assert found.arrays["input_ids"][0].tolist() == expected
    encoder.truncate(8)
    expected = theirs(LONG, truncation=True, max_length=8)["input_ids"]
    assert encoder.encode([LONG]).arrays["input_ids"][0].tolist() == expected
    encoder = TextEncoder(folder)
    for text, strategy in (((LONG,), True), (("a film", LONG), "only_second")):
        [windows] = encoder.windows([text if len(text) == 2 else text[0]], 4)[1]
        expected = theirs(
            *text,
            truncation=strategy,
            max_length=16,
            stride=4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        assert [w.ids for w in windows] == expected["input_ids"]
        assert [w.offsets for w in windows] == [list(map(tuple, o)) for o in expected["offset_mapping"]]


def test_tokenizer_json_tells_the_side_where_the_settings_do_not(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(8, direction="left")
    tokenizer.save(str(folder / "tokenizer.json"))
    assert TextEncoder(folder).truncation_side == "left"
    state(folder, "right")
    assert TextEncoder(folder).truncation_side == "right"


HALF = "bad \ud83d"


@pytest.mark.parametrize(
    ("task", "item"),
    [
        ("text-classification", HALF),
        ("text-classification", ("fine", HALF)),
        ("token-classification", HALF),
        ("token-classification", ["fine", HALF]),
        ("question-answering", (HALF, "fine")),
        ("question-answering", ("fine", HALF)),
        ("causal-lm", HALF),
        ("embeddings", HALF),
    ],
)
def test_half_of_a_surrogate_pair_is_named_with_its_place(task, item, folder):
    from optkit.core.artifact import Artifact
    from optkit.tasks.base import open_task

    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    named = {"id2label": {"0": "O", "1": "B-x"}, "model_type": "bert", "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps({**config, **named}))
    (folder / "model.safetensors").write_bytes(b"")
    opened = open_task(Artifact.open(folder), task)
    fine = ("fine", "fine") if task == "question-answering" else "fine"
    with pytest.raises(DataError, match="at position 1, received half of a surrogate pair"):
        opened.encode([fine, item])


def test_another_side_is_refused(folder):
    state(folder, "middle")
    with pytest.raises(CheckpointError, match="Truncation side should be .*'right' and 'left', .* middle"):
        TextEncoder(folder)
