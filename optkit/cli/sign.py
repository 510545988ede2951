"""`optkit sign`: a signature in an artifact's folder, for whoever is to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call


def sign(
    path: Annotated[Path, typer.Argument(help="An artifact or a checkpoint.")],
    key: Annotated[Path, typer.Option(help="The private key (PEM; P-256, P-384 or P-521); its password in $OPTKIT_KEY_PASSWORD.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the signature that is there.")] = False,
) -> None:  # fmt: skip
    """Sign every file of a model; others check it with --verify-key PUBLIC.pem."""
    flags = dict(locals())
    import optkit

    typer.echo(f"signed: {call(optkit.sign, flags)}")


def register(app: typer.Typer) -> None:
    app.command("sign")(sign)
