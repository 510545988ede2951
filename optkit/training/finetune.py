"""Fine-tune a pretrained model for a task on transformers' own Trainer. `Trainable` is what a task adds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files, seal
from optkit.core.files import digest, write_text
from optkit.core.output import claimed, staged, writing
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.events import Events, Note, silent
from optkit.models import tokenization
from optkit.models.checkpoint import fetch, is_per_token, model_inputs
from optkit.models.sentence_folder import CROSS_ENCODER
from optkit.models.soundness import refuse_unknown_ids
from optkit.models.text import pad_token
from optkit.models.tokenization_worker import change
from optkit.tasks.base import Columns, Labelled, Task, task_to_train
from optkit.training.page import PAGE, render
from optkit.training.provenance import record
from optkit.training.trainer.adapters import adapt
from optkit.training.trainer.batches import MASS, Rows, mass, places
from optkit.training.trainer.distributed import World
from optkit.training.trainer.settings import FinetuneSettings
from optkit.training.trainer.setup import (
    arguments,
    callbacks,
    class_loss,
    last_checkpoint,
    trainer_class,
)
from optkit.training.trainer.sharded import whole_weights

if TYPE_CHECKING:
    import datasets
    import torch
    from transformers import EvalPrediction, PreTrainedModel


__all__ = ["FinetuneSettings", "finetune"]

#: TensorBoard's folder, in the checkpoint beside the weights.
BOARD = "tensorboard"
#: What is kept of every tenth step and of each epoch's last.
LOGGED = ("step", "epoch", "loss", "learning_rate", "grad_norm")


def finetune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    settings: FinetuneSettings = FinetuneSettings(),
    columns: Columns = Columns(),
    force: bool = False,
    events: Events = silent,
    task: str | None = None,
) -> Artifact:
    """Train `model` with a new head on the training split of `data`; the checkpoint lies at `out`.

    `model` is a folder or a hub name, of an encoder or a decoder. The task is `task`, or the one whose
    columns the data has. Labels are those of the training split, in sorted order. After each epoch the
    validation split is scored with the task's default metric, and the best epoch is kept; its score and
    the history are the notes of the artifact's last step, and training.html beside the weights draws
    them. `events` hears of each (`Scored`), and once which columns and rows are read.
    The same call resumes after the last whole epoch. Under torchrun every process trains its share of
    each batch, and only rank 0 writes. Raises DataError for data with a single class, PassError when
    the loss or an answer is no number, RecipeError for settings that do not fit the task or the machine.

    >>> finetune("all-MiniLM-L6-v2", "../shared/data/sst2", "models/sst2")  # doctest: +SKIP
    """
    world = World.current()
    world.check(settings)
    with claimed(out, force, (model, data)) if world.is_first else nullcontext():
        return _trained(world, model, data, Path(out), settings, columns, force, events, task)


def _trained(
    world: World,
    model: str | Path,
    data: str | Path,
    out: Path,
    settings: FinetuneSettings,
    columns: Columns,
    force: bool,
    events: Events,
    task: str | None,
) -> Artifact:
    import transformers

    begun = time.monotonic()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    source, examples = fetch(model), Data(str(data))
    if source.format != "hf":
        raise CheckpointError(f"Expected a checkpoint (format hf), received format {source.format!r}.")
    rows = examples.split("train")
    chosen = task_to_train(task, rows, columns).of(source.config)
    name, config = chosen.name, chosen.training_config(rows, columns)
    goal = chosen.for_training(source, config, settings.max_length)
    if goal.compares_rows and (settings.accumulate > 1 or world.size > 1):
        raise RecipeError(
            f"{name} learns from the other documents of a batch: it cannot be computed in parts, received "
            f"accumulate {settings.accumulate} and {world.size} processes.",
            hint="Leave accumulate out and start one process; gradient_checkpointing saves memory.",
        )
    train, validation = _read(goal, examples, rows, columns, events)
    train, validation = goal.to_learn(train, settings.seed), goal.to_learn(validation, None)
    new: set[str] = set()

    def start() -> tuple[torch.nn.Module, Callable[[], None]]:
        model = goal.network(source, config, _loader(source, new, goal.new_parts))
        return model, adapt(model, goal.backbone(model), settings.lora) if settings.lora else lambda: None

    network, merge = start()
    refuse_unknown_ids(network, train.encoded, validation.encoded)
    weights, soft = _weights(goal, train, settings), settings.label_smoothing
    loss = class_loss(network, weights, soft) if weights is not None or soft else None
    prints = [source.fingerprint(), *(examples.fingerprint(split) for split in ("train", "validation"))]
    key = digest(prints, asdict(settings), asdict(columns), name, config)
    work = out.parent / f".{out.name}.work-{key}"

    def settled(predictions: EvalPrediction) -> tuple[Task, np.ndarray]:
        outputs = _outputs(goal.reduced_outputs(network), validation, predictions)
        best = goal.settled(outputs, validation.references)
        return best, best.answers(outputs)

    def score(predictions: EvalPrediction) -> dict[str, float]:
        best, answers = settled(predictions[0])
        return {"score": best.score(answers, validation.references)}

    with writing(work), world.together():
        work.mkdir(parents=True, exist_ok=True)
        trainer = trainer_class()(
            model=network,
            args=arguments(settings, work, world, 1 if validation.encoded.is_sound else 64),
            train_dataset=Rows(train.encoded.lengths.tolist(), 0),
            eval_dataset=Rows(validation.encoded.lengths.tolist(), 1),
            data_collator=_collate(goal, network, (train, validation), weights),
            preprocess_logits_for_metrics=goal.reduced,
            compute_metrics=score,
            compute_loss_func=loss,
            callbacks=callbacks(settings, events, work / BOARD),
            new=new,
            new_rate=1.0 if settings.lora else settings.head_rate,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
        best, table = goal, []
        if goal.has_table:  # of the best epoch, which may lie before a resumed run
            best, answers = settled(trainer.predict(trainer.eval_dataset).predictions)
            table = [asdict(x) for x in best.table(answers, validation.references)]
        if settings.fsdp and (state_dict := whole_weights(trainer.model_wrapped)):
            network, merge = start()
            network.load_state_dict(state_dict)
    logged, doubts = trainer.state.log_history, best.doubts("The model", table)
    step = {
        "pass": "finetune",
        "parameters": {"model": str(model), "data": str(data), "task": name, **asdict(settings)},
        "notes": {
            "metric": goal.metric,
            "score": trainer.state.best_metric,
            "history": [{"epoch": e["epoch"], "score": e["eval_score"]} for e in logged if "eval_score" in e],
            "losses": [{name: e[name] for name in LOGGED if name in e} for e in logged if "loss" in e],
            "table": table,
            "doubts": doubts,
            **best.settled_config,
            "data": record(examples, columns),
            "examples": len(train.references),
            "truncated": train.encoded.truncated,
            "skipped": train.skipped,
            "empty": train.empty,
            "processes": world.size,
        },
        "seconds": round(time.monotonic() - begun, 3),
    }
    for doubt in doubts:
        events(Note(doubt))
    if world.is_first:
        merge()
        with staged(out, force) as folder:
            best.save(network, folder)
            # What a cross-encoder says of its head is no longer true of the new one.
            stale = () if goal.keeps_modules else ("modules.json", "config_sentence_transformers.json")
            copy_side_files(source.path, folder, but=("config.json", *stale))
            if settings_of_tokenizer := goal.tokenizer_settings(source):
                change(folder, settings_of_tokenizer)
            tokenization.record(folder, source.path)
            write_text(folder / PAGE, render(step))
            if (work / BOARD).exists():
                shutil.copytree(work / BOARD, folder / BOARD)
            seal(folder, source, step, format="hf", precision="fp32", task=name)
        shutil.rmtree(work, ignore_errors=True)
    world.wait()
    return Artifact.open(out)


def _read(
    goal: Task, examples: Data, rows: datasets.Dataset, columns: Columns, events: Events
) -> tuple[Labelled, Labelled]:
    """The train and the validation split. Raises DataError where they are read by different columns."""
    train = goal.read(rows, columns)
    validation = goal.read(examples.split("validation"), columns)
    if train.columns != validation.columns:
        raise DataError(
            f"Expected the same columns in both splits, received {train.columns} in train and "
            f"{validation.columns} in validation.",
            hint="Name them with --text-column, --pair-column and --label-column.",
        )
    events(Note(f"{train.described(examples.name, 'train')}; {len(validation.references)} of validation"))
    return train, validation


def _weights(task: Task, train: Labelled, settings: FinetuneSettings) -> np.ndarray | None:
    """The classes' weights in the loss, where they are asked for. Raises RecipeError where there are none."""
    balanced = settings.class_weights == "balanced"
    if not balanced and not settings.label_smoothing:
        return None
    counts = task.class_counts(train)
    if counts is None:
        asked = "class_weights" if balanced else "label_smoothing"
        raise RecipeError(f"{asked} is for one class per example or word, which this data does not have.")
    # As scikit-learn's "balanced"; a class that train lacks weighs nothing.
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)) * (counts > 0)
    return weights if balanced else None


def _loader(source: Artifact, new: set[str], may_be_new: Sequence[str]) -> Callable[..., PreTrainedModel]:
    """`load(auto_class, **config)`: the pretrained weights under a new head, in fp32.

    `new` gets the names of the weights that the checkpoint does not have, or in another shape: those of the
    head alone.
    """
    import torch
    import transformers

    from optkit.models.uneven.loading import from_pretrained

    def load(auto_class: str, **config: object) -> PreTrainedModel:
        try:
            network, info = from_pretrained(
                getattr(transformers, auto_class),
                str(source.path),
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **config,
            )
        except Exception as reason:
            raise CheckpointError(f"transformers cannot load {str(source.path)!r}: {reason}") from reason
        for key in CROSS_ENCODER:
            if hasattr(network.config, key):  # the head is trained without the activation of a cross-encoder
                delattr(network.config, key)
        lacking = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
        _refuse_new_body(network, lacking, may_be_new, source)
        new.update(lacking)
        if getattr(network.config, "pad_token_id", 0) is None:  # a decoder needs it to find a text's end
            network.config.pad_token_id = pad_token(source.config)
        return network

    return load


def _refuse_new_body(
    network: torch.nn.Module, new: set[str], may_be_new: Sequence[str], source: Artifact
) -> None:
    """CheckpointError where more than the head and what `may_be_new` would begin with random weights."""
    body = network.base_model
    prefix = "" if body is network else f"{network.base_model_prefix}."
    missing = sorted(
        name for name in new if name.startswith(prefix) and not {*may_be_new} & {*name.split(".")}
    )
    if missing:
        raise CheckpointError(
            f"{len(missing)} weights of {type(body).__name__} are not in {str(source.path)!r}, or have "
            f"another shape, for example {missing[0]!r}; they would be random.",
            hint="Copy the checkpoint again; config.json and the weights must be of the same model.",
        )


def _collate(
    task: Task, network: torch.nn.Module, splits: tuple[Labelled, ...], weights: np.ndarray | None
) -> Callable[[list[dict[str, int]]], dict[str, Any]]:
    """Of the first split, which is trained on, batches have a mass; `weights` are those of the classes."""
    import torch

    names = [*model_inputs(network), *task.trained_with]
    targets = [task.targets(labelled) for labelled in splits]

    def collate(items: list[dict[str, int]]) -> dict[str, Any]:
        split, rows = items[0]["split"], places(items)
        batch = task.collate(splits[split].encoded, targets[split], rows or [0])
        wanted = {*names, *targets[split]}
        tensors = {name: torch.from_numpy(value) for name, value in batch.items() if name in wanted}
        if split == 0:
            tensors[MASS] = mass(len(rows), batch.get("labels"), weights) if rows else 0.0
        return tensors

    return collate


def _outputs(
    shapes: dict[str, tuple[int | str, ...]],
    labelled: Labelled,
    predictions: np.ndarray | tuple[np.ndarray, ...],
) -> dict[str, list[np.ndarray]]:
    """Per example, from the Trainer's padded outputs in the order of the rows.

    Raises PassError where they are no numbers: an update may spoil the weights behind a loss that is one.
    """
    arrays = predictions if isinstance(predictions, tuple) else (predictions,)
    if not all(np.isfinite(array).all() for array in arrays[: len(shapes)]):
        raise PassError(
            "Expected numbers as the model's answers on validation, received others: training has diverged.",
            hint="Lower the learning rate; the same command resumes from the last whole epoch.",
        )
    lengths = labelled.encoded.lengths
    outputs: dict[str, list[np.ndarray]] = {}
    for (name, shape), array in zip(shapes.items(), arrays):
        cut = is_per_token(shape)
        outputs[name] = [row[: lengths[i]] if cut else row for i, row in enumerate(array)]
    windows = labelled.encoded.windows
    return windows.gather(outputs) if windows else outputs
