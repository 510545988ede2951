"""Numbers that a person sets: what is none of a quantity is refused, whoever asks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.core import quantities
from optkit.core.quantities import COUNT, DROP, FEW, PART, PORT, SECONDS, SEED, Quantity
from optkit.errors import RecipeError

ALL = [q for q in vars(quantities).values() if isinstance(q, Quantity)]


@pytest.mark.parametrize("quantity", ALL, ids=str)
@pytest.mark.parametrize(
    "text", ["nan", "inf", "-inf", "1e400", "", "a", "-1", "1e30", "9" * 5000, "1_0", "٣", "0x1"]
)
def test_what_is_no_number_of_anything(quantity, text):
    with pytest.raises(RecipeError, match="^Expected --flag as "):
        quantity.parse(text, "--flag")


@given(st.sampled_from(ALL), st.floats() | st.integers() | st.booleans() | st.none() | st.text())
def test_what_is_taken_is_finite_and_in_range(quantity, value):
    if not quantity.holds(value):
        with pytest.raises(RecipeError):
            quantity.check(value, "x")
        return
    assert math.isfinite(quantity.check(value, "x"))
    assert quantity.low <= value <= quantity.high
    assert quantity.parse(repr(value)) == value


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        (SECONDS, 0),
        (COUNT, 0),
        (COUNT, 1.0),
        (FEW, 10**6),
        (PORT, 65536),
        (SEED, 2**32),
        (PART, 1),
        (DROP, 1.0),
    ],
)
def test_ends(quantity, value):
    assert not quantity.holds(value)


@pytest.mark.parametrize("text", ["1%", "0.01", " 1 % ", "1e-2"])
def test_percentages(text):
    assert DROP.percentage(text, "--max-drop") == 0.01


@pytest.mark.parametrize("text", ["nan%", "100%", "1", "-1%", "%", "", "5%%", "1e400%"])
def test_no_percentages(text):
    with pytest.raises(RecipeError, match="such as 5% or 0.05"):
        DROP.percentage(text, "--max-drop")
