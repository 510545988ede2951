"""`optkit demo`: the main job with nothing but the installed packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.errors import OutputError


def demo(
    out: Annotated[Path, typer.Option(help="Where the INT8 model and its report go.")] = Path("models/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json on stdout.")] = False,
) -> None:
    """Try it: fine-tune, compress, report in under 5 minutes.

    Python's own docstrings are the data, all-MiniLM-L6-v2 is the encoder; no network is used.
    """
    from optkit.cli.terminal import Terminal
    from optkit.demo import demo as run

    _refuse_what_is_no_demo(out)
    with Terminal(quiet=quiet) as terminal:
        report = run(out, listener=terminal)
    terminal.result(report, out, json=json)


def _refuse_what_is_no_demo(out: Path) -> None:
    """The demo replaces `out`, so it may only be a demo's own earlier result."""
    from optkit.artifact import read_json

    report = out / "report.json"
    ours = report.is_file() and read_json(report, OutputError).get("command") == "optkit demo"
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            f"Expected a new folder or an earlier demo's, received {str(out)!r}, which holds something else.",
            hint="Give another --out.",
        )


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
