from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import RecipeError
from optkit.training.tuning.space import Dimension, Space


def test_forms():
    space = Space.parse(["a=1,2", "b=uniform(0,1,0.25)", "c=loguniform(1e-4,1)", "d=int(2,8,3)", "e=linear"])
    assert space.to_dict() == {
        "a": "choice(1,2)",
        "b": "uniform(0,1,0.25)",
        "c": "loguniform(0.0001,1)",
        "d": "int(2,8,3)",
        "e": "choice(linear)",
    }
    assert space.dimensions["b"].points() == [0, 0.25, 0.5, 0.75, 1]
    assert space.dimensions["c"].points() == pytest.approx([1e-4, 1e-2, 1])
    assert space.dimensions["d"].points() == [2, 5, 8]


def test_words_stand_for_values():
    assert Dimension.parse("choice(true, none, 3, 0.5, kprune)").choices == (True, None, 3, 0.5, "kprune")


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e3), st.sampled_from(["uniform", "loguniform"]))
def test_what_is_shown_reads_back_as_the_same(low, factor, kind):
    first = Dimension.parse(str(Dimension(kind, low, low * factor)))
    assert Dimension.parse(str(first)) == first


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("uniform(1,0)", "lower to a higher"),
        ("loguniform(0,1)", "above 0"),
        ("int(0.5,2)", "whole numbers"),
        ("uniform(0)", "uniform"),
        ("uniform(0,nan)", "lower to a higher"),
        ("uniform(0,1,-1)", "lower to a higher"),
        ("1,1", "different choices"),
        ("1,,2", "between the commas"),
        ("unifrom(0,1)", "Unknown range 'unifrom'"),
    ],
)
def test_what_is_no_range_is_refused(form, said):
    with pytest.raises(RecipeError, match=said):
        Space.parse([f"x={form}"])


def test_a_misspelt_kind_and_name_get_the_nearest():
    with pytest.raises(RecipeError) as caught:
        Dimension.parse("loguniforme(1,2)")
    assert "loguniform" in caught.value.hint
    with pytest.raises(RecipeError) as caught:
        Space.parse(["learning_rat=1,2"]).check(["learning_rate", "batch"], lambda name, value: None)
    assert "learning_rate" in caught.value.hint


def test_no_form_is_refused():
    for text in ("x", "=1", "x="):
        with pytest.raises(RecipeError, match="Expected NAME=FORM"):
            Space.parse([text])
    with pytest.raises(RecipeError, match="at least one name"):
        Space.parse([])


def test_a_file(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text('batch = [16, 32]\nseed = 3\n[prune]\nshare = "uniform(0.1,0.6)"\n')
    assert Space.parse([str(file), "seed=4"]).to_dict() == {
        "batch": "choice(16,32)",
        "seed": "choice(4)",
        "prune.share": "uniform(0.1,0.6)",
    }
    file.write_text("batch = [")
    with pytest.raises(RecipeError, match="Cannot read the space"):
        Space.parse([str(file)])


@pytest.mark.parametrize(
    "form", ["uniform(0,1,1e-300)", "int(1,1e30)", "int(1,1000000)", "uniform(-1e308,1e308,1)"]
)
def test_ranges_of_more_values_than_can_be_tried(form):
    with pytest.raises(RecipeError, match="at most 100,000 values"):
        Dimension.parse(form)


@pytest.mark.parametrize("form", ["int(1,2,0)", "uniform(0,1,0)", "uniform(0,1,-1)"])
def test_a_step_that_leads_nowhere(form):
    with pytest.raises(RecipeError, match="from a lower to a higher"):
        Dimension.parse(form)
