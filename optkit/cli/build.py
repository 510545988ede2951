"""`optkit build`: a TensorRT engine for this machine, from the graph beside the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def build(
    path: Annotated[Path, typer.Argument(help="A TensorRT artifact.")],
    out: Annotated[Path | None, typer.Option(help="A new folder; default: replace the artifact.")] = None,
) -> None:
    """Rebuild a TensorRT engine for this GPU."""
    from optkit.cli.terminal import Terminal
    from optkit.compression.rebuild import rebuild
    from optkit.events import Step

    with Terminal() as terminal:
        terminal(Step(f"building {path}"))
        made = rebuild(path, out, events=terminal)
    target = made.lineage[-1]["notes"]["built_for"]
    typer.echo(f"{made.path}: built for {target['gpu']}, TensorRT {target['tensorrt']}")


def register(app: typer.Typer) -> None:
    app.command("build")(build)
