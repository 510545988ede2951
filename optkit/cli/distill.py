"""`optkit distill`: train a smaller checkpoint to answer as a teacher does, on one or several processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import number
from optkit.core.quantities import COUNT, EPOCHS, EPOCHS_OR_NONE, FEW, RATE, SEED, TEMPERATURE, WEIGHT
from optkit.events import Note, Step


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
    from dataclasses import asdict

    from optkit.artifact import Artifact
    from optkit.cli.terminal import Terminal
    from optkit.core.output import named
    from optkit.core.process import Child
    from optkit.errors import OutputError
    from optkit.models.architectures import infer_task
    from optkit.models.checkpoint import fetch
    from optkit.passes.distill import Distill
    from optkit.tasks.base import Columns
    from optkit.training.provenance import origin, required
    from optkit.training.trainer.distributed import World

    step = Distill(
        teacher=str(teacher),
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        temperature=temperature,
        hidden=hidden,
        relations=relations,
        labels=labels,
        unlabelled=unlabelled,
        mixed_precision=mixed_precision,
        quantization_aware=quantization_aware,
        seed=seed,
    )
    first = World.current().is_first
    if first and os.path.exists(named(out)):
        raise OutputError(f"The output folder {str(out)!r} exists.", hint="Give another --out.")
    source = fetch(student)
    columns = Columns(text_column, pair_column, label_column)
    if data is None:
        known = origin(source) if unlabelled is not None else required(source, "distill")
        data, columns = known.name, columns if columns != Columns() else known.columns
    with (
        Terminal(quiet=quiet or not first) as terminal,
        Child("optkit.passes.worker", threads, timeout_s=7 * 86400) as child,
    ):
        terminal(Step(f"distilling {student.name}"))
        if data is None:
            text = (
                f"accuracy is not measured: {known.said}; the teacher's answers to {unlabelled} are learned"
            )
            terminal(Note(text))
        child.call(
            "run",
            events=terminal,
            step="distill",
            parameters=step.parameters(),
            source=str(student),
            final=str(out),
            task=task or infer_task(source),
            data=data,
            columns=asdict(columns),
            threads=threads,
            trust_remote_code=False,
            metric=metric,
        )
    if not first:
        return
    notes = Artifact.open(out).lineage[-1]["notes"]
    for look in notes["history"]:
        typer.echo(
            f"epoch {look['epoch']:g}: validation {notes['metric']} {look['score']:.4f}, "
            f"distance to the teacher {look['distance']:.4g}"
        )
    typer.echo(f"kept: {notes['metric']} {notes['score']:.4f} (before {notes['score_before']:.4f}), in {out}")


def register(app: typer.Typer) -> None:
    app.command("distill")(distill)
