"""From a space to a chain of passes."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from optkit.compression.recipe import Recipe
from optkit.compression.search.chain import ask_chain, chain_of, check_space, default_space
from optkit.errors import RecipeError
from optkit.training.tuning.space import Space

SPACE = Space.parse(
    [
        "prune.criterion=kprune,fisher",
        "quantize-static.calibration=minmax,mse",
        "distill.temperature=1,2",
        "prune.share=uniform(0,0.6,0.2)",
        "distill.epochs=0,1",
        "quantize=none,quantize-dynamic,quantize-static",
    ]
)


def names(chosen) -> list[str]:
    return [step.name() for step in chain_of(chosen)]


OFF = {"prune.share": 0.0, "distill.epochs": 0, "quantize": None}


@pytest.mark.parametrize(
    ("values", "asked", "steps"),
    [
        ({}, set(), []),
        ({"prune.share": 0.4}, {"prune.criterion"}, ["prune"]),
        (
            {"prune.share": 0.4, "distill.epochs": 1},
            {"prune.criterion", "distill.temperature"},
            ["prune", "distill"],
        ),
        ({"quantize": "quantize-dynamic"}, set(), ["quantize-dynamic"]),
        ({"quantize": "quantize-static"}, {"quantize-static.calibration"}, ["quantize-static"]),
    ],
)
def test_only_what_a_chain_needs_is_asked(values, asked, steps):
    every = {"prune.criterion": "fisher", "distill.temperature": 2, "quantize-static.calibration": "mse"}
    chosen = ask_chain(SPACE, FixedTrial({**OFF, **values, **every}))
    assert set(chosen) - set(OFF) == asked
    assert [name for name in names(chosen) if name != "export-onnx"] == steps
    Recipe(chain_of(chosen))


def test_fields_reach_their_pass():
    prune, distill, *_ = chain_of(
        {"distill.epochs": 1, "prune.share": 0.2, "prune.criterion": "fisher", "distill.temperature": 4}
    )
    assert (prune.share, prune.criterion) == (0.2, "fisher")
    assert (distill.epochs, distill.temperature) == (1.0, 4.0)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_is_that_of_compress_whatever_the_order_of_the_space(reverse):
    fields = {
        "prune-vocabulary": True,
        "distill.epochs": 1,
        "prune-width": True,
        "prune.share": 0.2,
        "take-layers.layers": 2,
    }
    given = list(fields) if reverse else list(fields)[::-1]
    space = Space.parse([f"{name}={str(fields[name]).lower()}" for name in given])
    check_space(space)
    chosen = ask_chain(space, FixedTrial(fields))
    order = ["take-layers", "prune", "prune-width", "distill", "prune-vocabulary", "export-onnx"]
    assert names(chosen) == order
    Recipe(chain_of(chosen))


def test_a_pass_can_be_switched_by_its_name():
    space = Space.parse(["distill=true,false", "distill.epochs=2", "quantize=none"])
    check_space(space)
    on = ask_chain(space, FixedTrial({"distill": True, "distill.epochs": 2, "quantize": None}))
    assert names(on) == ["distill", "export-onnx"]
    off = ask_chain(space, FixedTrial({"distill": False, "distill.epochs": 2, "quantize": None}))
    assert names(off) == ["export-onnx"]


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"distill.epochs": 1, "take-layers.layers": 3}, ["take-layers", "distill"]),
        ({"distill.epochs": 1, "take-layers.layers": 0}, ["distill"]),
        ({"distill.epochs": 0, "take-layers.layers": 3}, []),
    ],
)
def test_layers_are_left_out_only_where_it_is_distilled(values, steps):
    space = Space.parse(["take-layers.layers=0,3", "distill.epochs=0,1"])
    check_space(space)
    chosen = ask_chain(space, FixedTrial(values))
    assert names(chosen) == [*steps, "export-onnx"]
    assert ("take-layers.layers" in chosen) == (values["distill.epochs"] > 0)


@pytest.mark.parametrize("form", ["take-layers=true", "take-layers.layers=3"])
def test_where_the_space_says_nothing_of_distillation_layers_are_left_out_too(form):
    name, _, value = form.partition("=")
    chosen = ask_chain(Space.parse([form]), FixedTrial({name: {"true": True}.get(value, 3)}))
    assert names(chosen) == ["take-layers", "export-onnx"]


@pytest.mark.parametrize(("prunable", "depth"), [(True, 0), (True, 3), (True, 4), (True, 12), (False, 12)])
def test_the_default_space_is_valid(prunable, depth):
    space = Space.parse(default_space(prunable, depth))
    check_space(space)
    assert "quantize-dynamic" in str(space.dimensions["quantize"])
    assert ("prune.share" in space.dimensions) == prunable
    assert ("take-layers.layers" in space.dimensions) == (prunable and depth >= 4)
    if prunable and depth == 12:
        assert space.dimensions["take-layers.layers"].choices == (0, 6, 8)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("prune.shar=0.1", "Unknown name 'prune.shar'"),
        ("prune.share=uniform(0,2)", "between 0 and 1"),
        ("prune.criterion=best", "to be one of"),
        ("quantize=int8", "Unknown pass 'int8'"),
        ("distill=2,3", "true or false"),
    ],
)
def test_what_no_chain_could_have_is_refused(form, said):
    with pytest.raises(RecipeError, match=said):
        check_space(Space.parse([form]))
