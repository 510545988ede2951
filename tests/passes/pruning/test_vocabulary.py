"""A tokenizer with fewer tokens reads the texts it was made for as before, and any other text too."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from optkit.errors import CheckpointError
from optkit.passes.pruning import vocabulary

TEXTS = [
    "the plot is thin and the cast is bright",
    "a fine film , bright and unhurried",
    "thinner plots have been filmed",
    "brightness is not everything",
    "unfilmed and unplotted , finally",
] * 3
#: What the smaller tokenizer is made for.
DATA = TEXTS[:2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def made(kind: str) -> Tokenizer:
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL)
    elif kind == "WordLevel":
        tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL)
    elif kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=70, special_tokens=SPECIAL, unk_token="[UNK]")
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def smaller(tokenizer: Tokenizer) -> tuple[Tokenizer, list[int]]:
    stored = json.loads(tokenizer.to_str())
    used = {i for text in DATA for i in tokenizer.encode(text).ids}
    keep = vocabulary.kept(stored, used)
    return Tokenizer.from_str(json.dumps(vocabulary.shrunk(stored, keep))), keep


@pytest.fixture(scope="module", params=vocabulary.KINDS)
def pair(request):
    before = made(request.param)
    return before, *smaller(before)


def test_the_data_is_read_as_before(pair):
    before, after, keep = pair
    assert after.get_vocab_size() == len(keep) < before.get_vocab_size()
    for text in DATA:
        old, new = before.encode(text), after.encode(text)
        assert new.tokens == old.tokens
        assert [keep[i] for i in new.ids] == old.ids
        assert new.offsets == old.offsets


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(text=st.text(max_size=40) | st.sampled_from(TEXTS))
def test_any_other_text_is_read_too(pair, text):
    _, after, keep = pair
    ids = after.encode(text).ids
    assert all(0 <= i < len(keep) for i in ids)
    assert [after.id_to_token(ids[0]), after.id_to_token(ids[-1])] == ["[CLS]", "[SEP]"]


def test_an_unseen_word_is_spelled():
    after, _ = smaller(made("WordPiece"))
    assert "[UNK]" not in after.encode("unplotted").tokens


def test_settings_get_the_new_numbers():
    old = {
        "vocab_size": 9,
        "pad_token_id": 5,
        "eos_token_id": [5, 7],
        "sep_token_id": None,
        "added_tokens_decoder": {"7": {"content": "[SEP]"}},
    }
    assert vocabulary.renumbered(old, [1, 5, 7]) == {
        "vocab_size": 3,
        "pad_token_id": 1,
        "eos_token_id": [1, 2],
        "sep_token_id": None,
        "added_tokens_decoder": {"2": {"content": "[SEP]"}},
    }


def test_another_kind_is_refused():
    with pytest.raises(CheckpointError, match="'Magic'"):
        vocabulary.vocabulary({"model": {"type": "Magic"}})
    with pytest.raises(CheckpointError, match="without a gap"):
        vocabulary.vocabulary({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 2}}})
