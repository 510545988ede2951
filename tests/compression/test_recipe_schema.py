"""The published JSON schema of recipes says of a recipe what optkit says."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

from optkit.compression.recipe import Recipe
from optkit.compression.recipe_schema import published
from optkit.compression.recipe_template import template
from optkit.errors import RecipeError
from optkit.passes import PASSES

FILE = Path(__file__).parents[2] / "docs" / "recipe.schema.json"
EXPORT = {"pass": "export-onnx"}


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(published())


def test_the_file_in_the_docs_is_the_schema():
    assert json.loads(FILE.read_text(encoding="utf-8")) == published(), (
        "optkit recipe schema > docs/recipe.schema.json"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"steps": [EXPORT]},
        {
            "steps": [
                {**EXPORT, "opset": 20},
                {"any_of": [{"pass": "quantize-dynamic"}, [{"pass": "quantize-static"}]]},
            ]
        },
        {"target": "cuda", "gate": {"max_drop": 0.01, "min_speedup": 2}, "steps": [EXPORT]},
        {"gate": {"max_drop": "1%", "min_agreement": "95%", "batch_invariant": True}, "steps": [EXPORT]},
        Recipe.int8().to_dict(),
    ],
)
def test_what_is_right_is_right_in_both(validator, value):
    Recipe.from_dict(value)
    validator.validate(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"steps": []},
        {"steps": [{"pass": "absent"}]},
        {"steps": [EXPORT], "more": 1},
        {"steps": [EXPORT], "target": "tpu"},
        {"steps": [EXPORT], "target": []},
        {"steps": [EXPORT], "gate": []},
        {"steps": [EXPORT], "gate": {"max_drop": "a lot"}},
        {"steps": [EXPORT], "gate": {"max_drop": 2}},
        {"steps": [EXPORT], "gate": {"max_drop": True}},
        {"steps": [EXPORT], "gate": {"min_speedup": 0}},
        {"steps": [EXPORT], "gate": {"min_speedup": "2"}},
        {"steps": [EXPORT], "gate": {"batch_invariant": 1}},
        {"steps": [{**EXPORT, "opset": 1}]},
        {"steps": [{**EXPORT, "opset": 20.5}]},
        {"steps": [{**EXPORT, "opset": 10**30}]},
        {"steps": [{**EXPORT, "opset": True}]},
        {"steps": [{**EXPORT, "unknown": 1}]},
        {"steps": [{"any_of": []}]},
        {"steps": [{"any_of": [], **EXPORT}]},
        {"steps": [{"pass": "prune", "criterion": "nothing"}]},
        {"steps": [{"pass": "distill", "epochs": "3"}]},
        {"steps": "export-onnx"},
        {"steps": [EXPORT] * 101},
    ],
)
def test_what_is_wrong_is_wrong_in_both(validator, value):
    with pytest.raises(RecipeError):
        Recipe.from_dict(value)
    assert not validator.is_valid(value)


def test_every_pass_and_field_is_described(validator):
    described = {
        d["properties"]["pass"]["const"]: d
        for d in published()["$defs"].values()
        if "pass" in d["properties"]
    }
    assert set(described) >= set(PASSES)
    for name, cls in PASSES.items():
        assert all(described[name]["properties"][f.name]["description"] for f in fields(cls))


def test_alternatives_that_nobody_could_wait_for_are_refused():
    fork = {"any_of": [{"pass": "prune", "share": 0.1 + i / 20} for i in range(10)]}
    with pytest.raises(RecipeError, match="at most 1000 chains"):
        Recipe.from_dict({"steps": [fork] * 20})


def test_the_template_fits(validator):
    import tomllib

    validator.validate(tomllib.loads(template()))
