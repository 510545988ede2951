"""`optkit preprocess`: from raw files to clean splits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT_OR_NONE, FEW, SEED


def preprocess(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A JSONL, CSV, TSV, Parquet, CoNLL or SQuAD file, a folder of splits, or a hub data set.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of JSONL splits to make.")],
    text_column: Annotated[
        str | None, typer.Option(help="Column of the text; default: the names that finetune knows.")
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(help="Column of the second text; default: the names that finetune knows.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the label; default: the names that finetune knows.")
    ] = None,
    no_label: Annotated[bool, typer.Option("--no-label", help="The data has no labels.")] = False,
    unescape: Annotated[bool, typer.Option("--unescape", help="Undo HTML escapes.")] = False,
    keep_empty: Annotated[bool, typer.Option("--keep-empty", help="Keep empty texts.")] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep the first of equal texts only.")
    ] = False,
    segment: Annotated[str, typer.Option(help="none, jieba or sentences.")] = "none",
    tag: Annotated[
        str, typer.Option(help="none, jieba, spacy:PIPELINE, or a token-classification checkpoint.")
    ] = "none",
    tag_features: Annotated[
        bool, typer.Option("--tag-features", help="Tags in the text (word/TAG) instead of columns.")
    ] = False,
    encode_labels: Annotated[
        bool, typer.Option("--encode-labels", help="Labels as numbers; labels.json has their names.")
    ] = False,
    shares: Annotated[str, typer.Option(help="Shares of train, validation, test.")] = "0.8,0.1,0.1",
    stratify: Annotated[bool, typer.Option("--stratify", help="The same shares of every label.")] = False,
    seed: Annotated[int, number(SEED, help="The same seed gives the same splits.")] = 0,
    skip_bad: Annotated[int, number(COUNT_OR_NONE, help="Leave out at most this many corrupt lines.")] = 0,
    processes: Annotated[int, number(FEW, help="Processes; the result does not depend on it.")] = 1,
    model: Annotated[Path | None, typer.Option(help="A checkpoint: count texts beyond its limit.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:
    """Clean, segment, tag and split raw data; the same command resumes."""
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal

    with Terminal(quiet=quiet) as terminal:
        prepared = call(optkit.preprocess, flags, events=terminal)
    for split, count in prepared.rows.items():
        typer.echo(f"{split}: {count} rows")
        if without := prepared.rows_without_label.get(split):
            typer.echo(f"{split}: {without} rows without a label")
        if without := prepared.questions_without_answer.get(split):
            typer.echo(f"{split}: {without} questions without an answer, which optkit finetune refuses")
    typer.echo(f"report: {out / 'preprocessing.md'}")


def register(app: typer.Typer) -> None:
    app.command("preprocess")(preprocess)
