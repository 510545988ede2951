"""`optkit passes`: what there is, with parameters, defaults and meanings."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer


def passes(
    name: Annotated[str | None, typer.Argument(help="Only this pass.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the passes with their parameters."""
    from optkit.passes import PASSES

    chosen = {name: PASSES[name]} if name is not None else dict(PASSES)
    described = {n: _describe(cls) for n, cls in chosen.items()}
    if json:
        typer.echo(json_module.dumps(described, indent=2))
        return
    for title, about in described.items():
        data = "; needs data" if about["needs_data"] else ""
        typer.echo(f"{title}: {' or '.join(about['accepts'])} → {about['produces']}{data}")
        typer.echo(f"  {about['summary']}")
        for field in about["parameters"]:
            choices = f" ({', '.join(map(str, field['choices']))})" if field["choices"] else ""
            typer.echo(
                f"    {field['name']} = {json_module.dumps(field['default'])}  {field['doc']}{choices}"
            )
        typer.echo("")


def _describe(cls: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {
        "summary": cls.summary(),
        "accepts": sorted(cls.accepts),
        "produces": cls.produces,
        "needs_data": cls.needs_data,
        "parameters": [
            {
                "name": f.name,
                "default": list(f.default) if isinstance(f.default, tuple) else f.default,
                "doc": f.metadata["doc"],
                "choices": list(f.metadata["choices"] or []),
            }
            for f in fields(cls)
        ],
    }


def register(app: typer.Typer) -> None:
    app.command("passes")(passes)
