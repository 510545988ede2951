"""`optkit recipe init`, `optkit recipe check` and `optkit recipe schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Write or check a recipe.", no_args_is_help=True, rich_markup_mode=None)


@group.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("recipe.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented recipe to edit."""
    from optkit.compression.recipe_template import template
    from optkit.core.files import write_text
    from optkit.core.output import claimed_file, writing

    with claimed_file(file, force), writing(file):
        write_text(file, template())
    typer.echo(f"wrote {file}; use it with: optkit compress CKPT --recipe {file} --data DATA --out OUT")


@group.command("check")
def check(file: Annotated[Path, typer.Argument(help="A recipe in TOML or JSON.")]) -> None:
    """Check a recipe and show its chains of passes."""
    from optkit.compression.recipe import Recipe

    plan = Recipe.load(file)
    for chain in plan.chains():
        typer.echo(" → ".join(step.name() for step in chain))
    typer.echo(f"gate: {plan.gate.describe()}; target: {plan.target}")


@group.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from json import dumps

    from optkit.compression.recipe_schema import published

    typer.echo(dumps(published(), indent=2))


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="recipe")
