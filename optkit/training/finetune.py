"""Fine-tune a pretrained encoder for text classification on transformers' own Trainer."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact, check_free, copy_side_files, seal, staged, writing
from optkit.checkpoint import model_inputs
from optkit.data import Data, column
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.examples import EncodedSet
from optkit.task import Columns, Labelled
from optkit.tasks.text_classification import COLUMNS, MULTI, REGRESSION, SINGLE, TextClassification
from optkit.text import TextEncoder

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class FinetuneSettings:
    """`batch` is examples per step, `learning_rate` the peak after `warmup` (a share of all steps).

    `max_length` bounds tokens per example while training (None: the model's own limit).
    """

    epochs: float = 3.0
    batch: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int | None = 128
    seed: int = 0

    def __post_init__(self) -> None:
        above_zero = ("epochs", "batch", "learning_rate")
        for name in above_zero:
            if not getattr(self, name) > 0:
                raise RecipeError(f"Expected {name} above 0, received {getattr(self, name)}.")
        if not 0 <= self.warmup < 1:
            raise RecipeError(f"Expected warmup as a share from 0 to 1, received {self.warmup}.")
        if self.max_length is not None and self.max_length < 3:
            raise RecipeError(f"Expected max_length of at least 3 tokens, received {self.max_length}.")


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    settings: FinetuneSettings = FinetuneSettings(),
    columns: Columns = Columns(),
    force: bool = False,
    progress: Progress = lambda text, fraction: None,
) -> Artifact:
    """Train `model` with a new head on the training split of `data`; the checkpoint lies at `out`.

    The labels are those of the training split, in sorted order; numbers with a fraction make it a
    regression, lists a multi-label model. After each epoch the validation split is scored, and the
    best epoch is kept; its score and the history are the notes of the artifact's last step. The
    same call resumes after the last whole epoch. Raises DataError for data with a single class,
    PassError when the loss is no number.

    >>> finetune("all-MiniLM-L6-v2", "../shared/data/sst2", "models/sst2")  # doctest: +SKIP
    """
    import transformers
    from transformers.trainer_utils import get_last_checkpoint

    begun, out = time.monotonic(), Path(out)
    check_free(out, force)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    source, examples = Artifact.open(model), Data(str(data))
    labels, problem = _labels_of(examples.split("train"), columns)
    encoder = TextEncoder(source.path)
    encoder.truncate(settings.max_length)
    metric = TextClassification.default_metric(problem)
    task = TextClassification(labels, problem, metric, encoder)
    train, validation = (task.read(examples.split(name), columns) for name in ("train", "validation"))
    network = _network(source, labels, problem)
    key = [source.fingerprint(), examples.fingerprint("train"), asdict(settings), asdict(columns), labels]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    work = out.parent / f".{out.name}.work-{digest}"
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        trainer = transformers.Trainer(
            model=network,
            args=_arguments(settings, work),
            train_dataset=_rows(train),
            eval_dataset=_rows(validation),
            data_collator=_collate(network, train.encoded.pad, problem),
            compute_metrics=lambda p: {"score": task.score(task.answers({"logits": p[0]}), p[1])},
            callbacks=[_callback(progress)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)))
    history = [entry for entry in trainer.state.log_history if "eval_score" in entry]
    with staged(out, force) as folder:
        network.save_pretrained(str(folder), safe_serialization=True)
        config = (folder / "config.json").read_bytes()
        copy_side_files(source.path, folder)  # the tokenizer; config.json stays the trained model's
        (folder / "config.json").write_bytes(config)
        step = {
            "pass": "finetune",
            "parameters": {"model": str(model), "data": str(data), **asdict(settings)},
            "notes": {
                "metric": metric,
                "score": trainer.state.best_metric,
                "history": [{"epoch": e["epoch"], "score": e["eval_score"]} for e in history],
                "examples": len(train.references),
                "truncated": train.encoded.truncated,
            },
            "seconds": round(time.monotonic() - begun, 3),
        }
        seal(folder, source, step, format="hf", precision="fp32", task=task.name)
    shutil.rmtree(work, ignore_errors=True)
    return Artifact.open(out)


def _network(source: Artifact, labels: list[str], problem: str) -> Any:
    import torch
    import transformers

    from optkit.pruning.loading import from_pretrained

    try:
        return from_pretrained(
            transformers.AutoModelForSequenceClassification,
            str(source.path),
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type=problem,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as reason:
        raise CheckpointError(f"transformers cannot load {str(source.path)!r}: {reason}") from reason


def _rows(labelled: Labelled) -> Any:
    """A data set for the Trainer: encoded examples, their labels, and lengths to group by."""
    import datasets

    arrays = {name: [a.tolist() for a in rows] for name, rows in labelled.encoded.arrays.items()}
    lengths = labelled.encoded.lengths.tolist()
    return datasets.Dataset.from_dict({**arrays, "labels": labelled.references, "length": lengths})


def _collate(network: Any, pad: dict[str, int], problem: str) -> Callable[[list[dict[str, Any]]], dict]:
    import torch

    names = model_inputs(network)
    kind = np.int64 if problem == SINGLE else np.float32

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        arrays = {name: [np.array(item[name]) for item in items] for name in names}
        batch = EncodedSet(arrays, pad).batch(range(len(items)))
        batch["labels"] = np.array([item["labels"] for item in items], dtype=kind)
        return {name: torch.from_numpy(value) for name, value in batch.items()}

    return collate


def _arguments(settings: FinetuneSettings, folder: Path) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=64,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,  # below 1 it is a share
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        seed=settings.seed,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # on, it would report a NaN loss as 0
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not np.isfinite(float(loss)):
                raise PassError(
                    f"The loss is {loss} at step {state.global_step}, epoch {state.epoch:.2f}.",
                    hint="Lower the learning rate; the same command resumes from the last whole epoch.",
                )
            progress(f"loss {float(loss):.3f}", state.global_step / max(1, state.max_steps))

    return Callback()


def _labels_of(rows: Any, columns: Columns) -> tuple[list[str], str]:
    """Label names in sorted order, and the problem type that the label column's values imply."""
    name = column(rows, columns.label, COLUMNS["label"], "label", "--label-column")
    values = list(rows[name])
    names = getattr(rows.features.get(name), "names", None)
    if names:
        return list(names), SINGLE
    if isinstance(values[0], list):
        labels, problem = sorted({str(v) for value in values for v in value}), MULTI
    elif any(isinstance(v, float) and v != int(v) for v in values):
        return ["value"], REGRESSION
    else:
        labels, problem = sorted({str(v) for v in values}), SINGLE
    if len(labels) < 2:
        raise DataError(f"Expected at least two classes in column {name!r}, received: {labels}.")
    return labels, problem
