"""`optkit package`: an artifact as a Triton repository, a Docker folder, a wheel or a zip file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call


def package(
    path: Annotated[Path, typer.Argument(help="An artifact.")],
    format: Annotated[str, typer.Option(help="triton, docker, wheel, zip or sentence-transformers.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    name: Annotated[str | None, typer.Option(help="What the model is called; default: the folder's name.")] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "1",
    verify_key: Annotated[Path | None, typer.Option(help="A public key (PEM) whose owner has to have signed the artifact; see optkit sign.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
) -> None:  # fmt: skip
    """Package an artifact for a serving stack."""
    flags = dict(locals())
    import optkit

    typer.echo(f"{out}: {format}\nuse: {call(optkit.package, flags).use}")


def register(app: typer.Typer) -> None:
    app.command("package")(package)
