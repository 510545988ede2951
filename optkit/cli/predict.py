"""`optkit predict`: answers from an artifact, for a few texts or a file of them."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from optkit.cli.parameters import number
from optkit.core.files import lines_of
from optkit.core.quantities import COUNT, FEW, PROBABILITY, SEED, TEMPERATURE, TOKENS
from optkit.errors import DataError, RecipeError
from optkit.events import Answered, Event, Note


def predict(
    path: Annotated[Path, typer.Argument(help="An artifact or a checkpoint.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; default: lines of standard input.")] = None,
    input: Annotated[Path | None, typer.Option(help="A file: one text per line; with --output also .jsonl and .parquet.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the answers here (.jsonl, .parquet), at constant memory; a run that was killed goes on.")] = None,
    text_column: Annotated[str | None, typer.Option(help="With --output: column of the text. [default: text, sentence, ...]", show_default=False)] = None,
    pair_column: Annotated[str | None, typer.Option(help="With --output: column of the second text. [default: text_pair, sentence2, ...]", show_default=False)] = None,
    keep: Annotated[str | None, typer.Option(help="With --output: input columns to copy, as in id,text. [default: the text]", show_default=False)] = None,
    chunk: Annotated[int, number(COUNT, help="With --output: rows answered and written at a time.")] = 8192,
    ray: Annotated[bool, typer.Option("--ray", help="With --output: spread the chunks over a Ray cluster (RAY_ADDRESS) or this machine's cores.")] = False,
    threads: Annotated[int | None, number(FEW, help="Threads of the runtime; default: all cores, with --ray one.")] = None,
    verify_key: Annotated[Path | None, typer.Option(help="A public key (PEM) whose owner has to have signed the model; see optkit sign.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file.")] = False,
    runtime: Annotated[str | None, typer.Option(help="Run on this runtime instead of the stored one.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with all scores.")] = False,
    max_new_tokens: Annotated[int | None, number(TOKENS, help="causal-lm: most tokens to write. [default: 64]", show_default=False)] = None,
    temperature: Annotated[float | None, number(TEMPERATURE, help="causal-lm: 0 takes the likeliest token, above it tokens are drawn. [default: 0]", show_default=False)] = None,
    top_k: Annotated[int | None, number(COUNT, help="causal-lm: draw among the k likeliest.")] = None,
    top_p: Annotated[float | None, number(PROBABILITY, help="causal-lm: draw among the fewest that hold this probability.")] = None,
    seed: Annotated[int | None, number(SEED, help="causal-lm: the same seed draws the same text.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="causal-lm: print each prompt and its text as it is written.")] = False,
) -> None:  # fmt: skip
    """Print a prediction per text, or write those of a whole file; a language model writes on after each text."""
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
    if output is not None:
        if input is None:
            raise RecipeError("--output needs --input FILE.")
        if options or stream:
            raise RecipeError("Expected either --output or options of generation, received both.")
        _whole_file(
            force,
            ray,
            path=str(path),
            input=str(input),
            output=str(output),
            runtime=runtime,
            text_column=text_column,
            pair_column=pair_column,
            keep=tuple(keep.split(",")) if keep else (),
            chunk=chunk,
            threads=threads or (1 if ray else None),
            verify_key=str(verify_key) if verify_key else None,
        )
        return
    if ray or keep or text_column or pair_column:
        raise RecipeError("--ray, --keep, --text-column and --pair-column need --output FILE.")
    if input:
        _refuse_rows(input)
    from optkit.serving.predictor import load

    lines = texts or _lines(input)
    settings: dict[str, Any] = {"threads": threads} if threads else {}
    with load(path, runtime, verify_key=verify_key, **settings) as predictor:
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


def _whole_file(force: bool, ray: bool, **fields: Any) -> None:
    """Answer a file; progress goes to stderr, at most once a second."""
    from optkit.serving.offline import Job, predict_file

    begun: list[int] = []
    told = 0.0

    def tell(event: Event) -> None:
        nonlocal told
        if isinstance(event, Note):
            typer.echo(event.text, err=True)
        if not isinstance(event, Answered):
            return
        if not begun:
            begun.append(event.rows)
            if event.rows:
                typer.echo(f"going on after {event.rows:,} of {event.total:,} rows", err=True)
        elif event.seconds - told >= 1 or event.rows == event.total:
            told = event.seconds
            rate = (event.rows - begun[0]) / max(event.seconds, 1e-9)
            typer.echo(f"{event.rows:,} of {event.total:,} rows, {rate:,.0f} a second", err=True)

    done = predict_file(Job(**fields), force=force, ray=ray, events=tell)
    typer.echo(f"{fields['output']}: {done.rows:,} rows in {done.seconds:.1f} s")


def _refuse_rows(file: Path) -> None:
    """RecipeError for a file whose lines are no texts."""
    from optkit.data.tables.read import ENDINGS
    from optkit.serving.inputs import KINDS

    if file.suffix in ENDINGS:
        raise RecipeError(
            f"Expected texts, one per line, received {file.name!r}, whose lines are rows with columns.",
            hint="Give --output as well." if file.suffix in KINDS else f"Give a {', '.join(KINDS)} file.",
        )


def _lines(file: Path | None) -> list[str]:
    try:
        raw = file.read_bytes() if file else sys.stdin.buffer.read()
        return [line for line in lines_of(raw.decode("utf-8")) if line.strip()]
    except (OSError, UnicodeDecodeError) as reason:
        raise DataError(f"Cannot read texts from {str(file or 'standard input')!r}: {reason}.") from reason


def register(app: typer.Typer) -> None:
    app.command("predict")(predict)
