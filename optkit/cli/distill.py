"""`optkit distill`: train a smaller checkpoint to answer as a teacher does, on one or several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, EPOCHS, EPOCHS_OR_NONE, FEW, RATE, SEED, TEMPERATURE, WEIGHT


def distill(
    student: Annotated[Path, typer.Argument(metavar="STUDENT", help="A pruned checkpoint's folder, or any with the teacher's labels and tokens.")],
    teacher: Annotated[Path, typer.Option(help="The checkpoint to learn from: a folder or a hub name.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to make.")],
    data: Annotated[str | None, typer.Option(help="Folder of train/validation files, one file, or a hub data set. [default: what finetune noted in STUDENT]", show_default=False)] = None,
    epochs: Annotated[float, number(EPOCHS, help="Passes over the texts.")] = 3.0,
    batch: Annotated[int, number(COUNT, help="Texts per step, over all processes.")] = 32,
    learning_rate: Annotated[float, number(RATE, help="Peak, after the warm-up.")] = 2e-4,
    temperature: Annotated[float, number(TEMPERATURE, help="Softens the teacher's labels.")] = 2.0,
    hidden: Annotated[float, number(WEIGHT, help="Weight of the hidden states.")] = 1.0,
    relations: Annotated[float, number(WEIGHT, help="Weight of the relations of queries, keys and values.")] = 0.0,
    labels: Annotated[float, number(WEIGHT, help="Weight of the data's own labels.")] = 0.0,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="More texts, or without data all of them: .txt, JSONL, CSV, Parquet.")] = None,
    mixed_precision: Annotated[str, typer.Option(help="no, bf16, fp16 (GPU).")] = "no",
    quantization_aware: Annotated[float, number(EPOCHS_OR_NONE, metavar="EPOCHS", help="The last epochs meet INT8's rounding.")] = 0.0,
    seed: Annotated[int, number(SEED, help="The same seed gives the same model.")] = 0,
    task: Annotated[str | None, typer.Option(help="What the model is for; default: from its architecture.")] = None,
    metric: Annotated[str | None, typer.Option(help="The task's metric, which decides which moment is kept; default: its first.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    threads: Annotated[int | None, number(FEW, help="Threads per process; default: all cores.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:  # fmt: skip
    """Train STUDENT to answer as the teacher does; the best moment by validation is kept.

    Under torchrun the processes share each batch. The same command resumes after the last checkpoint.
    """
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal
    from optkit.training.trainer.distributed import World

    first = World.current().is_first
    with Terminal(quiet=quiet or not first) as terminal:
        trained = call(optkit.distill, flags, events=terminal)
    if not first:
        return
    for look in trained.history:
        typer.echo(
            f"epoch {look.epoch:g}: validation {trained.metric} {look.score:.4f}, "
            f"distance to the teacher {look.distance:.4g}"
        )
    typer.echo(f"kept: {trained.metric} {trained.score:.4f} (before {trained.score_before:.4f}), in {out}")


def register(app: typer.Typer) -> None:
    app.command("distill")(distill)
