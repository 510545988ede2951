"""`optkit tune`: hyperparameter search over `optkit finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, SEED


def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A pretrained model's folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="Folder of train/validation files, one file, or a hub data set.")],
    out: Annotated[Path, typer.Option(help="The folder for the best checkpoint.")],
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FORM",
            help="What to search, once per name: learning_rate=loguniform(1e-5,1e-3), batch=16,32, epochs=int(2,4), schedule=linear,cosine; or a .toml file. Default: learning rate, batch, epochs, warm-up, weight decay.",
        ),
    ] = None,
    trials: Annotated[int, number(COUNT, help="Finished trials in all, over all processes and runs.")] = 20,
    sampler: Annotated[str, typer.Option(help="tpe, random, grid, cmaes.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="What stops a hopeless trial after an epoch: median, hyperband, none.")] = "median",
    storage: Annotated[
        str | None,
        typer.Option(help="Where the study lives, for all that share it: sqlite:///FILE.db, journal:FILE, postgresql://... [default: OUT.study/study.db]", show_default=False),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; default: that of OUT.")] = None,
    seed: Annotated[int, number(SEED, help="The same seed proposes the same trials.")] = 0,
    task: Annotated[str | None, typer.Option(help="Default: the one whose columns the data has.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:  # fmt: skip
    """Search hyperparameters of finetune; the best checkpoint is kept.

    The same command resumes, joins from another process, or goes on with more --trials. The test split is not read.
    """
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal
    from optkit.training.tuning import page

    with Terminal(quiet=quiet) as terminal:
        result = call(optkit.tune, flags, events=terminal)
    for line in page.lines(result):
        typer.echo(line)
    folder = out if (out / page.PAGE).exists() else out.with_name(f"{out.name}.study")
    typer.echo(f"report: {folder / page.PAGE}")


def register(app: typer.Typer) -> None:
    app.command("tune")(tune)
