"""`optkit report render`: a report.json in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.errors import DataError, OutputError

group = typer.Typer(help="Work with report.json files.", no_args_is_help=True, rich_markup_mode=None)


@group.command("render")
def render(
    report: Annotated[Path, typer.Argument(help="A report.json, or the folder it lies in.")],
    format: Annotated[str, typer.Option(help="markdown, html, json, junit or csv.")] = "markdown",
    out: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
) -> None:
    """Draw a report in another format."""
    from optkit.report.model import Report
    from optkit.report.model import render as draw

    file = report / "report.json" if report.is_dir() else report
    if not file.is_file():
        raise DataError(
            f"Expected a report.json, received {str(file)!r}, which does not exist.",
            hint="Give the file, or the folder that optkit compress wrote.",
        )
    text = draw(Report.load(file), format)
    if out is None:
        typer.echo(text)
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as reason:
            raise OutputError(f"Could not write {str(out)!r}: {reason.strerror}.") from reason
        typer.echo(f"wrote {out}")


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="report")
