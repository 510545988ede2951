"""What all verbs share: a number is checked as the quantity that it is, no text is empty, and flags become the
call of a public function."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from optkit.core.quantities import Quantity
from optkit.errors import RecipeError

R = TypeVar("R")
#: What only the command line has: it decides what is printed.
PRINTED = ("quiet", "json")
#: Flag → the field of `optkit.Columns`, which a public function takes as `columns`.
COLUMNS = {"text_column": "text", "pair_column": "pair", "label_column": "label"}


def call(function: Callable[..., R], flags: Mapping[str, Any], **more: object) -> R:
    """`function` with `flags`, the parameters of a verb: all have the same names; `more` are not flags."""
    from optkit.tasks.base import Columns

    given = {name: value for name, value in flags.items() if name not in (*PRINTED, *COLUMNS)}
    if COLUMNS.keys() & flags.keys():
        given["columns"] = Columns(**{field: flags[flag] for flag, field in COLUMNS.items() if flag in flags})
    if "command" in signature(function).parameters:
        given["command"] = shlex.join(["optkit", *sys.argv[1:]])
    return function(**given, **more)


def number(quantity: Quantity, *names: str, **more: Any) -> Any:
    """An option for one of `quantity`; `names` and `more` as for `typer.Option`."""

    def parse(text: str | float) -> float:
        try:
            return quantity.parse(text)
        except RecipeError as error:
            raise typer.BadParameter(str(error)) from error

    more.setdefault("metavar", quantity.name.split()[-1].upper())
    return typer.Option(*names, parser=parse, **more)


class Verb(TyperCommand):
    """A command whose options have values: an empty one is most often a shell variable that is not set."""

    def invoke(self, ctx: Any) -> Any:
        parameter: Any
        for parameter in self.params:
            value = ctx.params.get(parameter.name or "")
            values = value if isinstance(value, (list, tuple)) else [value]
            if parameter.param_type_name == "option" and "" in values:
                raise typer.BadParameter("Expected a value, received none.", ctx=ctx, param=parameter)
        return super().invoke(ctx)
