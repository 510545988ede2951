"""A recipe from switches, a list, or a file."""

from __future__ import annotations

import pytest

from optkit.benchmarking.gate import Gate
from optkit.compression.flags import recipe_of
from optkit.compression.recipe import Recipe
from optkit.compression.recipe_template import template
from optkit.errors import RecipeError


def test_switches_a_list_and_a_file_give_the_same_recipe(tmp_path):
    (tmp_path / "r.toml").write_text(template())
    expected = Recipe.int8()
    assert recipe_of(None, int8=True) == expected
    assert recipe_of(["int8"]) == recipe_of("int8") == recipe_of(expected) == expected
    assert recipe_of(tmp_path / "r.toml") == recipe_of(str(tmp_path / "r.toml")) == expected


def test_conditions_win_over_the_recipes_own():
    own = Recipe.int8(Gate(max_drop=0.05, min_speedup=2.0))
    gate = recipe_of(own, max_drop="2%", min_agreement="95%", batch_invariant=True).gate
    assert gate == Gate(0.02, True, 2.0, True, 0.95)
    assert recipe_of(own).gate == own.gate


def test_neither_and_both_are_refused():
    with pytest.raises(RecipeError, match="received neither"):
        recipe_of(None)
    with pytest.raises(RecipeError, match="received both"):
        recipe_of(["int8"], prune=0.5)
    with pytest.raises(RecipeError, match="--epochs needs --distill"):
        recipe_of(None, prune=0.5, epochs=3.0)
