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
    """Try it: fine-tune, compress, report in under 5 minutes.

    Python's own docstrings are the data, all-MiniLM-L6-v2 is the encoder; no network is used.
    """
    from optkit.cli.terminal import Terminal, require_passed
    from optkit.compression.demo import demo as run

    with Terminal(quiet=quiet) as terminal:
        report = run(out, events=terminal)
    terminal.result(report, out, json=json)
    require_passed(report, out)


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
