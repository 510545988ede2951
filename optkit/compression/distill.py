"""`distill`: train a checkpoint to answer as a teacher does, in a process of its own."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from optkit.core.output import named
from optkit.core.process import Child
from optkit.errors import OutputError
from optkit.events import Events, Note, Step, silent
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch
from optkit.passes.distill import Distill
from optkit.tasks.base import Columns
from optkit.training.provenance import origin, required
from optkit.training.trained import LONGEST_S, Trained
from optkit.training.trainer.distributed import World


def distill(
    student: str | Path,
    teacher: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    epochs: float = 3.0,
    batch: int = 32,
    learning_rate: float = 2e-4,
    temperature: float = 2.0,
    hidden: float = 1.0,
    relations: float = 0.0,
    labels: float = 0.0,
    unlabelled: str | Path | None = None,
    mixed_precision: str = "no",
    quantization_aware: float = 0.0,
    seed: int = 0,
    task: str | None = None,
    metric: str | None = None,
    columns: Columns = Columns(),
    threads: int | None = None,
    events: Events = silent,
) -> Trained:
    """Train `student` to answer as `teacher` does; the best moment by validation is kept.

    Under torchrun the processes share each batch. The same call resumes after the last checkpoint.

    Parameters:
        student: a pruned checkpoint's folder, or any with the teacher's labels and tokens.
        teacher: the checkpoint to learn from, a folder or a hub name.
        out: the checkpoint folder to make.
        data: a folder of train and validation files, one file, or a hub data set. None: what `finetune` noted
            in `student`.
        epochs: passes over the texts.
        batch: texts per step, over all processes.
        learning_rate: the peak, after the warm-up.
        temperature: softens the teacher's labels.
        hidden: weight of the hidden states in the loss.
        relations: weight of the relations of queries, keys and values.
        labels: weight of the data's own labels.
        unlabelled: a file of more texts, or without data of all of them: .txt, JSONL, CSV, Parquet.
        mixed_precision: no, bf16, or fp16 (GPU).
        quantization_aware: so many of the epochs, the last ones, meet INT8's rounding.
        seed: the same seed gives the same model.
        task: what the model is for. None: from its architecture.
        metric: the task's metric, which decides which moment is kept. None: its first.
        columns: which columns of the data hold text, second text and label.
        threads: threads per process. None: one for each core.
        events: hears of progress (`optkit.events`).

    Returns scores before and after; under torchrun the first process alone knows them.

    Raises OutputError where `out` exists, DataError where there is too little to learn from, CheckpointError
    where student and teacher do not fit.

    >>> optkit.distill("models/sst2", teacher="models/sst2", out="models/new", data="data")  # doctest: +SKIP
    """
    step = Distill(
        teacher=str(teacher),
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        temperature=temperature,
        hidden=hidden,
        relations=relations,
        labels=labels,
        unlabelled=None if unlabelled is None else str(unlabelled),
        mixed_precision=mixed_precision,
        quantization_aware=quantization_aware,
        seed=seed,
    )
    first = World.current().is_first
    if first and os.path.exists(named(out)):
        raise OutputError(f"The output folder {str(out)!r} exists.", hint="Give another --out.")
    source = fetch(student)
    told = ""
    if data is None:
        known = origin(source) if unlabelled is not None else required(source, "distill")
        data, columns = known.name, columns if columns != Columns() else known.columns
        told = f"accuracy is not measured: {known.said}; the teacher's answers to {unlabelled} are learned"
    with Child("optkit.passes.worker", threads, timeout_s=LONGEST_S) as child:
        events(Step(f"distilling {Path(student).name}"))
        if data is None:
            events(Note(told))
        child.call(
            "run",
            events=events,
            step="distill",
            parameters=step.parameters(),
            source=str(student),
            final=str(out),
            task=task or infer_task(source),
            data=None if data is None else str(data),
            columns=asdict(columns),
            threads=threads,
            trust_remote_code=False,
            metric=metric,
        )
    return Trained.read(out) if first else Trained(Path(out))
