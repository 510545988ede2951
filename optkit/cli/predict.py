"""`optkit predict`: answers from an artifact, for a few texts or a file of them."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

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
    max_new_tokens: Annotated[int | None, typer.Option(help="causal-lm: most tokens to write. [default: 64]", show_default=False)] = None,
    temperature: Annotated[float | None, typer.Option(help="causal-lm: 0 takes the likeliest token, above it tokens are drawn. [default: 0]", show_default=False)] = None,
    top_k: Annotated[int | None, typer.Option(help="causal-lm: draw among the k likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(help="causal-lm: draw among the fewest that hold this probability.")] = None,
    seed: Annotated[int | None, typer.Option(help="causal-lm: the same seed draws the same text.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="causal-lm: print each prompt and its text as it is written.")] = False,
) -> None:  # fmt: skip
    """Print a prediction per text; with a language model, what it writes after each text."""
    from optkit.serving.predictor import load

    if texts and input:
        raise RecipeError("Expected either texts or --input FILE, received both.")
    if stream and json:
        raise RecipeError("Expected either --stream or --json, received both.")
    asked = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    lines = texts or _lines(input)
    with load(path, runtime) as predictor:
        if stream:
            for line in lines:
                typer.echo(line, nl=False)
                for piece in predictor.generate(line, **options):
                    typer.echo(piece, nl=False)
                typer.echo()
            return
        inputs = [predictor.task.from_line(line) for line in lines]
        for text, answer in zip(lines, predictor.predict(inputs, **options)):
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
