"""`optkit build`: a TensorRT engine for this machine, from the graph beside the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call


def build(
    path: Annotated[Path, typer.Argument(help="A TensorRT artifact.")],
    out: Annotated[Path | None, typer.Option(help="A new folder; default: replace the artifact.")] = None,
) -> None:
    """Rebuild a TensorRT engine for this GPU."""
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal

    with Terminal() as terminal:
        built = call(optkit.build, flags, events=terminal)
    target = built.lineage[-1]["notes"]["built_for"]
    typer.echo(f"{built.path}: built for {target['gpu']}, TensorRT {target['tensorrt']}")


def register(app: typer.Typer) -> None:
    app.command("build")(build)
