"""`finetune`: the public verb. It trains in a process of its own: torch's memory goes back when it ends."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from optkit.core.process import Child
from optkit.events import Events, Step, silent
from optkit.tasks.base import Columns
from optkit.training.trained import LONGEST_S, Trained
from optkit.training.trainer.settings import FinetuneSettings


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    epochs: float = 3.0,
    batch: int = 32,
    learning_rate: float = 1e-4,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    max_length: int | None = 128,
    seed: int = 0,
    task: str | None = None,
    optimizer: str = "adamw",
    schedule: str = "linear",
    patience: int | None = None,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    precision: str = "fp32",
    class_weights: str = "none",
    lora: int = 0,
    fsdp: bool = False,
    head_rate: float = 10.0,
    columns: Columns = Columns(),
    force: bool = False,
    events: Events = silent,
) -> Trained:
    """Fine-tune a pretrained model for the task of the data; the best epoch is kept.

    Labels are those of the training split, in sorted order. Under torchrun the processes share each batch.
    The same call resumes after the last whole epoch.

    Parameters:
        model: a pretrained model's folder, or a hub name.
        data: a folder of train and validation files, one file, or a hub data set.
        out: the checkpoint folder to make.
        epochs: passes over the training split.
        batch: examples per step, over all processes.
        learning_rate: the peak, after the warm-up.
        warmup: share of all steps.
        weight_decay: share by which weights shrink, times the learning rate.
        max_length: tokens per example while training. None: the model's own limit.
        seed: the same seed gives the same model.
        task: what the model is for. None: the one whose columns the data has.
        optimizer: adamw, sgd, adafactor, adagrad, rmsprop.
        schedule: linear, cosine, constant, constant_with_warmup, polynomial, inverse_sqrt.
        patience: stop after so many epochs without a better score. None: never.
        label_smoothing: share of the target that is spread over all labels.
        accumulate: parts of a batch, one after another: less memory.
        gradient_checkpointing: compute activations twice: less memory.
        precision: fp32, bf16, or fp16 (GPU).
        class_weights: none, or balanced: rare classes count as much as frequent ones.
        lora: rank of adapters to train instead of the weights; 0: none.
        fsdp: shard the model over GPUs (under torchrun).
        head_rate: a new head learns so many times as fast as the other weights.
        columns: which columns of the data hold text, second text and label.
        force: replace `out`.
        events: hears of progress (`optkit.events`).

    Returns the scores; training.html in `out` draws them.

    Raises DataError for data with a single class, PassError when the loss or an answer is no number,
    RecipeError for settings that do not fit the task or the machine, OutputError where `out` exists.

    >>> optkit.finetune("encoder", "data", "models/new", epochs=1).score > 0.5  # doctest: +SKIP
    True
    """
    settings = FinetuneSettings(
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        max_length=max_length,
        seed=seed,
        optimizer=optimizer,
        schedule=schedule,
        patience=patience,
        label_smoothing=label_smoothing,
        accumulate=accumulate,
        gradient_checkpointing=gradient_checkpointing,
        precision=precision,
        class_weights=class_weights,
        lora=lora,
        fsdp=fsdp,
        head_rate=head_rate,
    )
    with Child("optkit.training.worker", timeout_s=LONGEST_S) as child:
        events(Step(f"fine-tuning {Path(model).name if os.path.exists(model) else model}"))
        child.call(
            "finetune",
            events=events,
            model=str(model),
            data=str(data),
            out=str(out),
            settings=asdict(settings),
            columns=asdict(columns),
            force=force,
            task=task,
        )
    return Trained.read(out)
