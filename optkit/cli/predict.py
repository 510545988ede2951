"""`optkit predict`: answers from an artifact, for a few texts or a file of them."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from optkit.errors import DataError, RecipeError


def predict(
    path: Annotated[Path, typer.Argument(help="An artifact or a checkpoint.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; default: lines of standard input.")
    ] = None,
    input: Annotated[Path | None, typer.Option(help="A file with one text per line.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Run on this runtime instead of the stored one.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with all scores.")] = False,
) -> None:
    """Print a prediction per text."""
    from optkit.serving.predictor import load

    if texts and input:
        raise RecipeError("Expected either texts or --input FILE, received both.")
    lines = texts or _lines(input)
    with load(path, runtime) as predictor:
        inputs = [predictor.task.from_line(line) for line in lines]
        for text, answer in zip(lines, predictor.predict(inputs)):
            if json:
                described = predictor.task.describe(answer)
                typer.echo(json_module.dumps({"text": text, **described}, ensure_ascii=False))
            else:
                typer.echo(f"{predictor.task.line(answer)}\t{text}")


def _lines(file: Path | None) -> list[str]:
    try:
        raw = file.read_bytes() if file else sys.stdin.buffer.read()
        return [line for line in raw.decode("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as reason:
        raise DataError(f"Cannot read texts from {str(file or 'standard input')!r}: {reason}.") from reason


def register(app: typer.Typer) -> None:
    app.command("predict")(predict)
