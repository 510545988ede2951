"""`optkit finetune`: from a pretrained encoder and labelled text to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, EPOCHS, FACTOR, LENGTH, RANK, RATE, RATE_OR_NONE, SEED, SHARE

#: A longer table stands in the page alone.
MOST_LINES = 60


def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A pretrained model's folder, or a hub name.")
    ],
    data: Annotated[str, typer.Option(help="Folder of train/validation files, one file, or a hub data set.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to make.")],
    epochs: Annotated[float, number(EPOCHS, help="Passes over the training split.")] = 3.0,
    batch: Annotated[int, number(COUNT, help="Examples per step.")] = 32,
    learning_rate: Annotated[float, number(RATE, help="Peak, after the warm-up.")] = 1e-4,
    warmup: Annotated[float, number(SHARE, help="Share of all steps.")] = 0.1,
    weight_decay: Annotated[
        float, number(RATE_OR_NONE, help="Share by which weights shrink, times the learning rate.")
    ] = 0.01,
    max_length: Annotated[int, number(LENGTH, help="Tokens per example while training.")] = 128,
    seed: Annotated[int, number(SEED, help="The same seed gives the same model.")] = 0,
    task: Annotated[str | None, typer.Option(help="Default: the one whose columns the data has.")] = None,
    optimizer: Annotated[str, typer.Option(help="adamw, sgd, adafactor, adagrad, rmsprop.")] = "adamw",
    schedule: Annotated[
        str, typer.Option(help="linear, cosine, constant, constant_with_warmup, polynomial, inverse_sqrt.")
    ] = "linear",
    patience: Annotated[
        int | None, number(COUNT, help="Stop after so many epochs without a better score.")
    ] = None,
    label_smoothing: Annotated[
        float, number(SHARE, help="Share of the target spread over all labels.")
    ] = 0.0,
    accumulate: Annotated[int, number(COUNT, help="Parts of a batch, one after another: less memory.")] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute activations twice: less memory.")
    ] = False,
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 (GPU).")] = "fp32",
    class_weights: Annotated[
        str, typer.Option(help="none, balanced: rare classes count as much as frequent ones.")
    ] = "none",
    lora: Annotated[int, number(RANK, help="Rank of adapters to train instead of the weights; 0: none.")] = 0,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Shard the model over GPUs (under torchrun).")] = False,
    head_rate: Annotated[
        float, number(FACTOR, help="A new head learns so many times as fast as the other weights.")
    ] = 10.0,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
) -> None:
    """Fine-tune a pretrained model for the task of the data; the best epoch is kept.

    Labels are those of the training split. Under torchrun the processes share each batch. The same command resumes after the last whole epoch.
    """
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal
    from optkit.report.scores import columns_of
    from optkit.training.page import PAGE
    from optkit.training.trainer.distributed import World

    first = World.current().is_first
    with Terminal(quiet=quiet or not first) as terminal:
        trained = call(optkit.finetune, flags, events=terminal)
    if not first:
        return
    for epoch in trained.history:
        typer.echo(f"epoch {epoch.epoch:g}: validation {trained.metric} {epoch.score:.4f}")
    if len(trained.classes) > MOST_LINES:
        typer.echo(f"{len(trained.classes)} lines of scores by label are in {out / PAGE}")
    for line in columns_of(trained.classes) if len(trained.classes) <= MOST_LINES else ():
        typer.echo(line)
    typer.echo(f"kept: {trained.metric} {trained.score:.4f}, in {out}")


def register(app: typer.Typer) -> None:
    app.command("finetune")(finetune)
