"""`optkit demo`: the main job with nothing but the installed packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Where the INT8 model and its report go.")] = Path("models/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json on stdout.")] = False,
) -> None:
    """Fine-tune a small encoder on Python's own docstrings, compress it to INT8, report. Under 5 minutes."""
    from optkit.cli.terminal import Terminal
    from optkit.demo import demo as run

    with Terminal(quiet=quiet) as terminal:
        report = run(out, listener=terminal)
    terminal.result(report, out, json=json)


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
