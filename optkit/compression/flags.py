"""A recipe from what a caller asks for: a list of passes, a file, or switches such as `int8` and `prune`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from optkit.benchmarking.gate import Gate, share
from optkit.compression.recipe import Recipe
from optkit.compression.steps import AnyOf
from optkit.errors import RecipeError
from optkit.passes.base import Pass
from optkit.passes.distill import Distill
from optkit.passes.prune import Prune
from optkit.passes.prune_vocabulary import PruneVocabulary
from optkit.passes.take_layers import TakeLayers

#: What `compress` takes as its recipe.
Asked = Recipe | Sequence[Pass | AnyOf | str] | str | Path


def recipe_of(
    recipe: Asked | None,
    *,
    int8: bool = False,
    prune: float | None = None,
    distill: bool = False,
    epochs: float | None = None,
    layers: int | None = None,
    teacher: str | None = None,
    unlabelled: str | Path | None = None,
    prune_vocabulary: bool = False,
    runtime: str | None = None,
    batch_invariant: bool = False,
    min_agreement: str | float | None = None,
    max_drop: str | float | None = None,
    min_speedup: float | None = None,
    target: str | None = None,
) -> Recipe:
    """`recipe`, or the passes that the switches name; conditions and target win over the recipe's own.

    Parameters as for `compress`. Raises RecipeError where both are given or neither, and for a switch without
    the one that it belongs to.
    """
    options = {"epochs": epochs, "layers": layers, "teacher": teacher}
    if not distill and (alone := [name for name, value in options.items() if value is not None]):
        raise RecipeError(f"--{alone[0]} needs --distill.")
    steps: list[Pass | AnyOf | str] = [
        *([TakeLayers(layers)] if layers is not None else []),
        *([Prune(prune)] if prune is not None else []),
        *([_distill(epochs, teacher, unlabelled)] if distill else []),
        *([PruneVocabulary()] if prune_vocabulary else []),
        *(["int8"] if int8 else []),
    ]
    if target == "cuda" and recipe is None:
        if int8:
            raise RecipeError("--target cuda tries INT8 and FP8 by itself; leave --int8 out.")
        steps.append("cuda")
    if bool(steps) == (recipe is not None):
        raise RecipeError(
            "Expected either passes (--prune, --distill, --prune-vocabulary, --int8, --target cuda) or "
            "--recipe FILE, received " + ("both." if steps else "neither."),
            hint="optkit recipe init writes a recipe to edit.",
        )
    if runtime is not None and not int8:
        raise RecipeError("--runtime restricts --int8; a recipe's passes decide its engines.")
    if recipe is None:
        plan = Recipe.of(steps if int8 or target == "cuda" else [*steps, "export-onnx"], runtime=runtime)
    elif isinstance(recipe, Path) or str(recipe).endswith((".toml", ".json")):
        plan = Recipe.load(str(recipe))
    else:
        plan = recipe if isinstance(recipe, Recipe) else Recipe.of(recipe)
    gate = plan.gate
    if max_drop is not None:
        parsed = Gate.parse(max_drop)
        gate = replace(gate, max_drop=parsed.max_drop, relative=parsed.relative)
    if min_speedup is not None:
        gate = replace(gate, min_speedup=min_speedup)
    if min_agreement is not None:
        gate = replace(gate, min_agreement=share(min_agreement, "--min-agreement"))
    if batch_invariant:
        gate = replace(gate, batch_invariant=True)
    return replace(plan, gate=gate, target=plan.target if target is None else target)


def _distill(epochs: float | None, teacher: str | None, unlabelled: str | Path | None) -> Distill:
    """The pass with its own defaults for what is None."""
    step = Distill(teacher=teacher, unlabelled=None if unlabelled is None else str(unlabelled))
    return step if epochs is None else replace(step, epochs=epochs)
