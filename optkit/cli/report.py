"""`optkit report render`: a report.json in another format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Work with report.json files.", no_args_is_help=True, rich_markup_mode=None)


@group.command("render")
def render(
    report: Annotated[Path, typer.Argument(help="A report.json, or the folder it lies in.")],
    format: Annotated[
        str, typer.Option(help="markdown, html, json, junit, csv, or labels: scores by label.")
    ] = "markdown",
    out: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
) -> None:
    """Draw a report in another format."""
    from optkit.core.files import write_text
    from optkit.core.output import claimed_file, writing
    from optkit.report.model import Report
    from optkit.report.model import render as draw

    file = report / "report.json" if os.path.isdir(report) else report
    text = draw(Report.load(file), format)
    if out is None:
        typer.echo(text)
    else:
        with claimed_file(out, force=True, reads=[file]), writing(out):
            write_text(out, text)
        typer.echo(f"wrote {out}")


@group.command("compare")
def compare(
    report: Annotated[Path, typer.Argument(help="The newer report.json.")],
    baseline: Annotated[Path, typer.Argument(help="The older one.")],
    row: Annotated[str | None, typer.Option(help="The row to compare; default: the chosen one.")] = None,
    allow_other_data: Annotated[
        bool, typer.Option("--allow-other-data", help="Compare all the same.")
    ] = False,
) -> None:
    """Show what changed between two reports; judges nothing."""
    from optkit.benchmarking.compare import gate, markdown

    unjudged = gate(
        report, baseline, max_drop=None, max_slowdown=None, row=row, allow_other_data=allow_other_data
    )
    typer.echo(markdown(unjudged, judged=False), nl=False)


@group.command("merge")
def merge(
    reports: Annotated[list[Path], typer.Argument(help="Reports on the same data and first row.")],
    out: Annotated[Path, typer.Option(help="The report.json to write.")],
) -> None:
    """Put the rows of several reports into one."""
    from optkit.benchmarking.compare import merge as run
    from optkit.core.output import claimed_file, writing
    from optkit.report.model import Report

    with claimed_file(out, force=True, reads=reports):
        merged = run([Report.load(file) for file in reports])
        with writing(out):
            merged.save(out)
    typer.echo(f"wrote {out} with {len(merged.rows)} rows")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="report")
