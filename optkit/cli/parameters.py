"""What all verbs share of their options: a number is checked as the quantity that it is, and no text is empty."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from optkit.core.quantities import Quantity
from optkit.errors import RecipeError


def number(quantity: Quantity, *names: str, **more: Any) -> Any:
    """An option for one of `quantity`; `names` and `more` as for `typer.Option`."""

    def parse(text: Any) -> Any:
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
