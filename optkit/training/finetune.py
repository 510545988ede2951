"""Fine-tune a pretrained encoder for text classification on transformers' own Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact, copy_side_files, staged
from optkit.data import Data, column
from optkit.errors import CheckpointError, DataError
from optkit.examples import EncodedSet
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


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    settings: FinetuneSettings = FinetuneSettings(),
    force: bool = False,
    progress: Progress = lambda text, fraction: None,
) -> Artifact:
    """Train `model` with a new head on the training split of `data`; the checkpoint lies at `out`.

    The labels are those of the training split, in sorted order; numbers with a fraction make it a
    regression, lists a multi-label model. The last checkpoint is kept. Raises DataError for data
    with a single class.

    >>> finetune("all-MiniLM-L6-v2", "../shared/data/sst2", "models/sst2")  # doctest: +SKIP
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    source = Artifact.open(model)
    rows = Data(str(data)).split("train")
    labels, problem = _labels_of(rows)
    try:
        network = transformers.AutoModelForSequenceClassification.from_pretrained(
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
    encoder = TextEncoder(source.path)
    encoder.truncate(settings.max_length)
    task = TextClassification(labels, problem, "", encoder)
    from optkit.task import Columns

    labelled = task.read(rows, Columns())
    with staged(Path(out), force) as folder, tempfile.TemporaryDirectory(prefix="optkit-train-") as scratch:
        trainer = transformers.Trainer(
            model=network,
            args=_arguments(settings, scratch),
            train_dataset=_rows(labelled.encoded, labelled.references),
            data_collator=_collate(network, labelled.encoded, problem),
            callbacks=[_progress_callback(progress)],
        )
        trainer.train()
        network.save_pretrained(str(folder), safe_serialization=True)
        copy_config_free_side_files(source.path, folder)
    return Artifact.open(out)


def copy_config_free_side_files(source: Path, target: Path) -> None:
    """Tokenizer files of `source`, keeping the config.json that `target` already has."""
    config = (target / "config.json").read_bytes()
    copy_side_files(source, target)
    (target / "config.json").write_bytes(config)


def _rows(encoded: EncodedSet, references: list[Any]) -> Any:
    """What the Trainer's sampler sees: row numbers and lengths; the collator brings the tensors."""
    import datasets

    return datasets.Dataset.from_dict(
        {"index": list(range(len(encoded))), "labels": references, "length": encoded.lengths.tolist()}
    )


def _collate(network: Any, encoded: EncodedSet, problem: str) -> Callable[[list[dict[str, Any]]], dict]:
    import torch

    from optkit.checkpoint import model_inputs

    names = model_inputs(network)

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        feeds = encoded.batch([item["index"] for item in items])
        batch = {name: torch.from_numpy(feeds[name]) for name in names}
        labels = np.array([item["labels"] for item in items])
        batch["labels"] = torch.from_numpy(labels.astype(np.int64 if problem == SINGLE else np.float32))
        return batch

    return collate


def _arguments(settings: FinetuneSettings, folder: str) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        seed=settings.seed,
        data_seed=settings.seed,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _progress_callback(progress: Progress) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                share = state.global_step / max(1, state.max_steps)
                progress(f"fine-tuning, loss {float(logs['loss']):.3f}", share)

    return Callback()


def _labels_of(rows: Any) -> tuple[list[str], str]:
    """Label names in sorted order, and the problem type that the label column's values imply."""
    name = column(rows, None, COLUMNS["label"], "label", "--label-column")
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
