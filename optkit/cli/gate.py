"""`optkit gate`: a report against the one kept from the main branch, for CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call


def gate(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="The new report.json.")],
    baseline: Annotated[Path, typer.Option(help="The report.json kept from the main branch.")],
    max_drop: Annotated[str, typer.Option(help="1% (relative) or 0.01 (absolute).")] = "1%",
    max_slowdown: Annotated[str, typer.Option(help="Most that the speedup may shrink.")] = "5%",
    row: Annotated[str | None, typer.Option(help="The row to compare; default: the chosen one.")] = None,
    allow_other_data: Annotated[
        bool, typer.Option("--allow-other-data", help="Compare all the same.")
    ] = False,
) -> None:
    """Compare two reports: exit 0 when it passes, 3 when not.

    Only a slowdown that the intervals show counts. Writes to $GITHUB_STEP_SUMMARY when it is set.
    """
    flags = dict(locals())
    import optkit
    from optkit.benchmarking.compare import markdown, require_passed

    compared = call(optkit.gate, flags)
    text = markdown(compared)
    typer.echo(text, nl=False)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(text)
    require_passed(compared)


def register(app: typer.Typer) -> None:
    app.command("gate")(gate)
