from __future__ import annotations

import json
import random

import pytest

from optkit.errors import CheckpointError
from optkit.models.ctc import Characters

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'.,?!"


@pytest.fixture(
    params=[{}, {"do_lower_case": True}, {"clean_up_tokenization_spaces": True}, {"pad_token": "[PAD]"}]
)
def theirs(request, tmp_path):
    from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

    tokens = [request.param.get("pad_token", "<pad>"), "<s>", "</s>", "<unk>", "|", *LETTERS]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), **request.param).save_pretrained(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def test_texts_and_words_are_those_of_transformers(theirs, tmp_path):
    own, rng = Characters.read(tmp_path), random.Random(0)
    for _ in range(100):
        drawn = rng.choices([0, 0, 4, 4, *range(len(LETTERS) + 7)], k=rng.randint(1, 30))
        ids = [token for token in drawn for _ in range(rng.randint(1, 3))]
        told = theirs.decode(ids, output_char_offsets=True, output_word_offsets=True)
        pieces = own.pieces(ids)
        assert own.text(pieces) == theirs.decode(ids) == told.text
        words = [(w["word"], w["start_offset"], w["end_offset"]) for w in told.word_offsets]
        assert [(w.text, w.start, w.end) for w in own.words(pieces)] == words


def test_a_text_is_spelled_in_the_case_that_the_model_writes(theirs, tmp_path):
    own = Characters.read(tmp_path)
    assert own.ids("Hello you") == theirs("hello you" if own.lower else "HELLO YOU")["input_ids"]
    assert own.spelled("Hello") == ("hello" if own.lower else "HELLO")


def test_a_new_vocabulary_is_read_by_transformers(tmp_path):
    from transformers import AutoTokenizer

    made = Characters.of(["Hello you", "a b"])
    made.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), Characters.read(tmp_path)
    assert theirs("Hello you")["input_ids"] == made.ids("Hello you")
    ids = [i for i in made.ids("Hello you") for _ in (0, 1)]
    assert again.text(again.pieces(ids)) == theirs.decode(ids) == "Helo you"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"}, "Phoneme"),
        ({"word_delimiter_token": "~"}, "word_delimiter_token"),
        ({"target_lang": "deu"}, "under 'deu'"),
    ],
)
def test_other_tokenizers_are_refused(settings, message, tmp_path):
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "a": 1}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        Characters.read(tmp_path)
