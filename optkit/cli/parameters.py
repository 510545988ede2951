"""Options that take a number: each is checked as the quantity that it is, before anything else begins."""

from __future__ import annotations

from typing import Any

import typer

from optkit.errors import RecipeError
from optkit.quantities import Quantity


def number(quantity: Quantity, *names: str, **more: Any) -> Any:
    """An option for one of `quantity`; `names` and `more` as for `typer.Option`."""

    def parse(text: Any) -> Any:
        try:
            return quantity.parse(text)
        except RecipeError as error:
            raise typer.BadParameter(str(error)) from error

    more.setdefault("metavar", quantity.name.split()[-1].upper())
    return typer.Option(*names, parser=parse, **more)
