"""The fields of a pass, its configuration: what each may hold, by its annotation and its `param`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from optkit.core.quantities import COUNT, WEIGHT, Quantity
from optkit.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def param(
    default: T,
    doc: str,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    of: Quantity | None = None,
) -> T:
    """A field of a pass: its default, its one-line meaning, and what values it takes.

    A number is one `of` a quantity, or lies from `minimum` to `maximum`.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "maximum": maximum, "of": of}
    return dataclasses.field(default=default, metadata=metadata)


def check(step: DataclassInstance, name: str) -> None:
    """Check every field of `step`, a pass called `name`; a list becomes a tuple, a whole number a float.

    Raises RecipeError, which says what was expected and received.
    """
    hints = typing.get_type_hints(type(step))
    for f in dataclasses.fields(step):
        value, hint, where = getattr(step, f.name), hints[f.name], f"{name}.{f.name}"
        if isinstance(value, list):
            value = tuple(value)
        elif type(value) is int and hint is float:
            value = float(value)
        object.__setattr__(step, f.name, value)
        if not _fits(value, hint):
            expected = getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)
            raise RecipeError(
                f"Expected {where} to be {expected}, received {value!r} ({type(value).__name__})."
            )
        choices = f.metadata.get("choices")
        if choices and value not in choices:
            raise RecipeError(
                f"Expected {where} to be one of {', '.join(map(str, choices))}, received {value!r}.",
                hint=did_you_mean(str(value), map(str, choices)),
            )
        if quantity := quantity_of(f, hint):
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None:
                    quantity.check(number, where)


def quantity_of(f: dataclasses.Field[Any], hint: Any) -> Quantity | None:
    """What a field that holds numbers may hold; None for another."""
    types_of_values = {hint, *typing.get_args(hint)}
    if not types_of_values & {int, float}:
        return None
    whole, low, high = int in types_of_values, f.metadata.get("minimum"), f.metadata.get("maximum")
    most = COUNT.high if whole else WEIGHT.high
    name = "a whole number" if whole else "a number"
    given = f.metadata.get("of")
    return given or Quantity(name, -most if low is None else low, most if high is None else high, whole)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
