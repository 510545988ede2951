"""`optkit predict`: answers from an artifact, for a few texts or a file of them."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, FEW, PROBABILITY, SEED, TEMPERATURE, TOKENS
from optkit.errors import DataError, RecipeError


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
    max_new_tokens: Annotated[int | None, number(TOKENS, help="causal-lm, text2text: most tokens to write. [default: 64, or as generation_config.json says]", show_default=False)] = None,
    temperature: Annotated[float | None, number(TEMPERATURE, help="causal-lm: 0 takes the likeliest token, above it tokens are drawn. [default: 0]", show_default=False)] = None,
    top_k: Annotated[int | None, number(COUNT, help="causal-lm: draw among the k likeliest.")] = None,
    top_p: Annotated[float | None, number(PROBABILITY, help="causal-lm: draw among the fewest that hold this probability.")] = None,
    seed: Annotated[int | None, number(SEED, help="causal-lm: the same seed draws the same text.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="embeddings: put the prompt of this name before each text: query, document, ... [default: the folder's default]", show_default=False)] = None,
    prompt: Annotated[str | None, typer.Option(help="embeddings: put this before each text.")] = None,
    truncate_dim: Annotated[int | None, number(COUNT, help="embeddings: keep so many dimensions (Matryoshka); they are not normalised again.")] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="embeddings: divide each vector by its length, after it was cut.")] = False,
    precision: Annotated[str | None, typer.Option(help="embeddings: int8, uint8, binary or ubinary. [default: float32]", show_default=False)] = None,
    ranges: Annotated[Path | None, typer.Option(help="embeddings: with int8 and uint8: a .npy file, (2, dimensions), of least and greatest values. [default: of these vectors]", show_default=False)] = None,
    language: Annotated[str | None, typer.Option(help="speech: the language that is spoken: german, de, ... [default: as generation_config.json says, or as the model hears it]", show_default=False)] = None,
    translate: Annotated[bool, typer.Option("--translate", help="speech: write it in English.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="speech: with the times of segments, in --json and in files.")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="causal-lm, text2text: print each prompt and its text as it is written.")] = False,
) -> None:  # fmt: skip
    """Print a prediction per text, or write those of a whole file; a language model writes on after each text."""
    flags = dict(locals())
    import optkit
    from optkit.cli.answer_printer import AnswerPrinter

    if stream and json:
        raise RecipeError("Expected either --stream or --json, received both.")
    if not texts and input is None and output is None:
        flags["texts"] = _standard_input()
    predicted = call(optkit.predict, flags, events=AnswerPrinter())
    if output is not None:
        typer.echo(f"{output}: {predicted.rows:,} rows in {predicted.seconds:.1f} s")
    for text, line, record in zip(predicted.texts, predicted.lines, predicted.records):
        if json:
            typer.echo(json_module.dumps({"text": text, **record}, ensure_ascii=False))
        elif not stream:
            typer.echo(f"{line}\t{text}")


def _standard_input() -> list[str]:
    from optkit.serving.predict import texts_of

    try:
        return texts_of(sys.stdin.buffer.read())
    except (OSError, UnicodeDecodeError) as reason:
        raise DataError(f"Cannot read texts from 'standard input': {reason}.") from reason


def register(app: typer.Typer) -> None:
    app.command("predict")(predict)
