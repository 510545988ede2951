"""A recipe as TOML or JSON: its tables → passes, gate and target, and back; an error names file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from optkit.benchmarking.gate import Gate
from optkit.compression.steps import AnyOf
from optkit.core.reading import parse_json, read_text
from optkit.core.schema import recipe as tables
from optkit.core.schema.base import check
from optkit.errors import RecipeError, did_you_mean
from optkit.passes.base import Pass, make

R = TypeVar("R")


def table(steps: Sequence[Pass | AnyOf], gate: Gate, target: str) -> dict[str, Any]:
    """As JSON values; `parsed` reads it back."""
    return {
        "target": target,
        "gate": {
            "max_drop": gate.drop_text(),
            "min_speedup": gate.min_speedup,
            **({"batch_invariant": True} if gate.batch_invariant else {}),
            **({"min_agreement": gate.min_agreement} if gate.min_agreement is not None else {}),
        },
        "steps": [
            {"any_of": [[_step_dict(p) for p in option] for option in step.options]}
            if isinstance(step, AnyOf)
            else _step_dict(step)
            for step in steps
        ],
    }


def parsed(value: dict[str, Any], name: str) -> tuple[tuple[Pass | AnyOf, ...], Gate, str]:
    """Steps, gate and target from JSON values, read from `name`. RecipeError names the nearest name."""
    _known_keys(value, ("target", "gate", "steps"), "the recipe")
    gate = value.get("gate", {})
    _known_keys(gate, ("max_drop", "min_speedup", "batch_invariant", "min_agreement"), "[gate]")
    steps = value.get("steps", [])
    if not isinstance(steps, list):
        raise RecipeError(f"Expected steps to be a list, received {type(steps).__name__}.")
    passes = tuple(_step(s, i) for i, s in enumerate(steps, start=1))
    check(tables.Recipe, value, name, RecipeError)
    return passes, Gate.parse(**{"max_drop": "1%", **gate}), value.get("target", "cpu")


def read(path: Path, recipe_of: Callable[[dict[str, Any], str], R]) -> R:
    """What `recipe_of` makes of the tables in a .toml or .json file and of its name."""
    text = read_text(path, RecipeError, most=2**20)
    try:
        is_json = path.suffix.lower() == ".json"
        value = parse_json(text, str(path), RecipeError) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as reason:
        raise RecipeError(f"{path}: not valid TOML: {reason}.") from reason
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: expected a table, received a {type(value).__name__}.")
    try:
        return recipe_of(value, path.name)
    except RecipeError as error:
        where = _line_of(text, str(error))
        raise RecipeError(f"{path}{f':{where}' if where else ''}: {error}", hint=error.hint) from error


def _step(value: object, number: int) -> Pass | AnyOf:
    if not isinstance(value, dict):
        raise RecipeError(f"Expected step {number} to be a table, received {value!r}.")
    if "any_of" in value:
        _known_keys(value, ("any_of",), f"step {number}")
        options = value["any_of"]
        if not isinstance(options, list):
            raise RecipeError(f"Expected any_of in step {number} to be a list, received {options!r}.")
        chains = [option if isinstance(option, list) else [option] for option in options]
        return AnyOf(tuple(tuple(_pass(p, number) for p in chain) for chain in chains))
    return _pass(value, number)


def _pass(value: object, number: int) -> Pass:
    if not isinstance(value, dict) or "pass" not in value:
        known = list(value) if isinstance(value, dict) else value
        raise RecipeError(f'Expected step {number} to have pass = "NAME", received {known!r}.')
    try:
        return make(value["pass"], {k: v for k, v in value.items() if k != "pass"})
    except RecipeError as error:
        raise RecipeError(f"step {number}: {error}", hint=error.hint) from error


def _step_dict(step: Pass) -> dict[str, Any]:
    return {"pass": step.name(), **step.parameters()}


def _known_keys(value: object, known: tuple[str, ...], where: str) -> None:
    if not isinstance(value, dict):
        raise RecipeError(f"Expected {where} to be a table, received {value!r}.")
    for key in value:
        if key not in known:
            raise RecipeError(f"Unknown key {key!r} in {where}.", hint=did_you_mean(key, known))


def _line_of(text: str, message: str) -> int | None:
    """The line of what `message` is about: within its step, the one line with a name that it mentions.

    A name on several lines proves nothing; then it is the step's first line, or None.
    """
    lines = [line.split("#")[0] for line in text.splitlines()]
    heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*steps\s*]]", line)]
    step = re.search(r"\b[Ss]tep (\d+)", message)
    begin, end = 0, len(lines)
    if step and len(heads) >= (number := int(step.group(1))):
        begin, end = [*heads, len(lines)][number - 1 : number + 1]
    names = re.findall(r"'([^']+)'|\b[a-z][\w-]*\.([a-z_]\w*)|--([a-z-]+)", message)
    for name in (quoted or dotted or flag.replace("-", "_") for quoted, dotted, flag in names):
        lines_with_name = [
            i + 1 for i in range(begin, end) if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lines[i])
        ]
        if len(lines_with_name) == 1:
            return lines_with_name[0]
    return begin + 1 if step and heads else None
