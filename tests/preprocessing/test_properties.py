"""What holds for every text and every set of shares."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.preprocessing.clean import clean
from optkit.preprocessing.segment import sentences, tagged
from optkit.preprocessing.split import SPLITS, position, split_of, stratified


@given(st.text())
def test_cleaning_is_idempotent_and_normal(text):
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert "  " not in once


@given(st.text(), st.floats(0.1, 0.9))
def test_every_text_has_one_split(text, train):
    place = position(text, 3)
    assert 0 <= place < 1
    assert split_of(place, (train, 1 - train, 0.0)) == ("train" if place < train else "validation")


@given(st.lists(st.tuples(st.text(max_size=5), st.sampled_from("ab")), max_size=40))
def test_stratified_keeps_equal_texts_of_a_label_together(rows):
    found = stratified([position(t) for t, _ in rows], [y for _, y in rows], (0.6, 0.2, 0.2))
    assert set(found) <= set(SPLITS)
    where = {}
    for row, split in zip(rows, found):
        assert where.setdefault(row, split) == split


@given(st.text(alphabet="ab. !?。A"))
def test_sentences_lose_no_character(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


def test_chinese_words_and_tags():
    pytest.importorskip("jieba")
    words, tags = tagged("我爱北京")
    assert "".join(words) == "我爱北京"
    assert tags[-1] == "ns"
