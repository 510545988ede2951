"""Stop sequences: a text in pieces ends where it would as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import DataError
from optkit.tasks.stop_sequences import StopSequences, checked

SOME = st.text("ab", min_size=1, max_size=4)


@given(st.lists(st.text("abc", max_size=3), max_size=12), SOME)
def test_the_text_ends_before_the_first_sequence_however_it_comes(pieces, stop):
    text = StopSequences([stop])
    given = [text.add(piece) for piece in pieces]
    whole = "".join(pieces)
    if stop in whole:
        assert (text.ended, "".join(given)) == (True, whole[: whole.index(stop)])
        assert text.add("more") == ""
    else:
        assert (text.ended, "".join(given) + text.waiting) == (False, whole)


@given(st.lists(st.text("abc", max_size=3), max_size=12), st.lists(SOME, min_size=1, max_size=3))
def test_no_sequence_is_ever_given(pieces, stops):
    text = StopSequences(stops)
    given = "".join(text.add(piece) for piece in pieces) + text.waiting
    assert not any(stop in given for stop in stops)
    assert "".join(pieces).startswith(given)
    assert text.ended == any(stop in "".join(pieces) for stop in stops)


def test_what_are_no_sequences_is_refused():
    assert checked(["a", "b"]) == ("a", "b")
    for wrong in ("", ["a", ""], [1], ["a"] * 17, ["a" * 201]):
        with pytest.raises(DataError, match="stop sequences"):
            checked(wrong)
