"""transformers' Trainer, set up: the same batches for any number of processes, and a watch over the loss."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import read_json
from optkit.errors import PassError
from optkit.events import Events, Progress, Scored
from optkit.training.trainer.batches import MASS, SHARE, grouped, shared
from optkit.training.trainer.distributed import World
from optkit.training.trainer.patience import early_stopping
from optkit.training.trainer.settings import OPTIMIZERS, FinetuneSettings

if TYPE_CHECKING:
    import torch
    import transformers
    from transformers import TrainerCallback
    from transformers.modeling_outputs import ModelOutput


def trainer_class() -> type[transformers.Trainer]:
    """The Trainer, whose steps depend on the whole batch only, in however many parts it is computed.

    It trains on `Rows`, and its collator puts the `MASS` of each batch beside the model's inputs.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import Trainer
    from transformers.utils import SAFE_WEIGHTS_NAME

    class GroupedTrainer(Trainer):
        """`new` names the weights that learn `new_rate` times as fast as the others."""

        def __init__(
            self, *args: object, new: Collection[str] = (), new_rate: float = 1.0, **settings: object
        ) -> None:
            self._new, self._new_rate = new, new_rate
            super().__init__(*args, **settings)
            # The Trainer's own scaling counts targets: not their weights, and most heads ignore the count.
            self.model_accepts_loss_kwargs, self.loss_is_scaled_for_ga = False, True

        def _get_train_sampler(
            self, train_dataset: torch.utils.data.Dataset[Any] | None = None
        ) -> torch.utils.data.Sampler[int]:
            rows = train_dataset if train_dataset is not None else self.train_dataset
            parts = self.args.train_batch_size * self.args.world_size
            whole = parts * self.args.gradient_accumulation_steps
            return grouped(rows, whole, parts if self.args.world_size > 1 else 1, self.args.seed)

        def get_batch_samples(
            self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
        ) -> tuple[list[dict[str, Any]], None]:
            """The parts of one step, each with its `SHARE`; gradients are then the mean over processes."""
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            masses = [batch.pop(MASS) for batch in batches]
            total = sum(masses)
            if self.args.world_size > 1:
                total = self.accelerator.reduce(torch.tensor(total, device=device), "sum")
            for batch, mass in zip(batches, masses):
                batch[SHARE] = mass * self.args.world_size / total if mass else None
            return batches, None

        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
            share = inputs.pop(SHARE, 1.0)  # in evaluation there is none
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            loss = shared(loss, outputs, share)
            return (loss, outputs) if return_outputs else loss

        def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
            first = self.optimizer is None
            optimizer = super().create_optimizer(model)
            if first and self._new and self._new_rate != 1:
                names = (model or self.model).named_parameters()
                new = {id(p) for n, p in names if n.replace("_fsdp_wrapped_module.", "") in self._new}
                speed_up(optimizer, new, self._new_rate)
            return optimizer

        def _run_epoch(self, *args: object, **settings: object) -> None:
            """Nothing, where a run is over that was killed before its result lay in place."""
            if self.state.global_step >= self.state.max_steps:
                self.control.should_training_stop = True
            if not self.control.should_training_stop:
                super()._run_epoch(*args, **settings)

        def _save(
            self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None
        ) -> None:
            """A checkpoint whose weights have the names of the modules.

            `save_pretrained` writes them by the names of the hub, which for some models (ViT) are others, and
            the Trainer reads them back by those of the modules and leaves out what it does not find.
            """
            model = self.accelerator.unwrap_model(self.model)
            if state_dict is None and not hasattr(model, "save_pretrained"):
                # Of a module that transformers does not know, tied weights have to be written twice.
                state_dict = {name: w.detach().cpu().clone() for name, w in model.state_dict().items()}
            super()._save(output_dir, state_dict)
            file = Path(output_dir or self.args.output_dir) / SAFE_WEIGHTS_NAME
            if self.args.should_save and file.exists():  # not the adapter of a LoRA, nor shards
                weights = state_dict or model.state_dict()
                whole = {name: w.detach().cpu().clone().contiguous() for name, w in weights.items()}
                save_file(whole, file, metadata={"format": "pt"})

        def _issue_warnings_after_load(self, load_result: torch.nn.modules.module._IncompatibleKeys) -> None:
            """Raises PassError where a checkpoint is not that of this model: a warning would be lost."""
            wrong = [*load_result.missing_keys, *load_result.unexpected_keys]
            if wrong:
                raise PassError(
                    "Expected a checkpoint with the weights of this model, received another one: "
                    f"{len(wrong)} names differ, such as {wrong[0]!r}.",
                    hint=f"Delete {self.args.output_dir!r} and run the command again: it starts anew.",
                )

    return GroupedTrainer


def speed_up(optimizer: torch.optim.Optimizer, chosen: Collection[int], rate: float) -> None:
    """Give the parameters whose `id` is in `chosen` `rate` times the learning rate that they have."""
    for group in list(optimizer.param_groups):
        faster = [p for p in group["params"] if id(p) in chosen]
        if faster:
            group["params"] = [p for p in group["params"] if id(p) not in chosen]
            optimizer.add_param_group({**group, "params": faster, "lr": group["lr"] * rate})


def arguments(
    settings: FinetuneSettings, folder: Path, world: World, answered: int = 64
) -> transformers.TrainingArguments:
    """The Trainer's own settings; `answered` rows of the validation split go through the model at once."""
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    training = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=world.share(settings),
        per_device_eval_batch_size=answered,
        fsdp=settings.fsdp or None,
        gradient_accumulation_steps=settings.accumulate,
        **({"gradient_checkpointing": True} if settings.gradient_checkpointing else {}),
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,  # below 1 it is a share
        weight_decay=settings.weight_decay,
        optim=OPTIMIZERS[settings.optimizer],
        lr_scheduler_type=settings.schedule,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=settings.seed,
        use_cpu=not gpu,
        ddp_backend=("nccl" if gpu else "gloo") if world.size > 1 else None,
        average_tokens_across_devices=False,  # it multiplies a loss that is no sum over tokens
        ddp_find_unused_parameters=world.size > 1,  # BERT's pooler has no gradient in some tasks
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
    training._n_gpu = min(training.n_gpu, 1)  # or one process takes all GPUs, and a batch on each
    return training


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in `folder` (None: there is none); what a kill left half-written goes.

    The Trainer writes into the final folder and its own state last of all.
    """
    whole = {}
    for path in folder.glob("checkpoint-*"):
        try:
            read_json(path / "trainer_state.json", ValueError)
            whole[int(path.name.partition("-")[2])] = str(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return whole[max(whole)] if whole else None


def callbacks(
    settings: FinetuneSettings,
    events: Events,
    board: Path | None = None,
) -> list[TrainerCallback]:
    """The watch over loss and score; early stopping with `patience`; with `board`, a folder, TensorBoard's
    events where it is installed.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_log(
            self,
            args: transformers.TrainingArguments,
            state: transformers.TrainerState,
            control: transformers.TrainerControl,
            logs: dict[str, float] | None = None,
            **_: object,
        ) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if not np.isfinite(float(loss)):
                raise PassError(
                    f"The loss is {loss} at step {state.global_step}, epoch {state.epoch:.2f}.",
                    hint="Lower the learning rate; the same command resumes from the last whole epoch.",
                )
            events(Progress(f"loss {float(loss):.3f}", state.global_step / max(1, state.max_steps)))

        def on_epoch_end(
            self,
            args: transformers.TrainingArguments,
            state: transformers.TrainerState,
            control: transformers.TrainerControl,
            **_: object,
        ) -> None:
            control.should_log = True  # so that every step's loss is looked at before a checkpoint is kept

        def on_evaluate(
            self,
            args: transformers.TrainingArguments,
            state: transformers.TrainerState,
            control: transformers.TrainerControl,
            metrics: dict[str, float],
            **_: object,
        ) -> None:
            events(Scored(float(state.epoch), float(metrics["eval_score"])))

    watching: list[TrainerCallback] = [Watch()]
    if settings.patience is not None:
        watching.append(early_stopping(settings.patience))
    if board is not None and World.current().is_first and find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        watching.append(TensorBoardCallback(SummaryWriter(str(board))))
    return watching


def class_loss(network: torch.nn.Module, weights: np.ndarray | None, smoothing: float) -> Callable[..., Any]:
    """Cross-entropy for the Trainer, every class weighted, its target softened; -100 is left out."""
    import torch

    count = network.config.num_labels

    def loss(
        outputs: ModelOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        logits = outputs["logits"].reshape(-1, count)
        scale = None if weights is None else torch.tensor(weights, dtype=logits.dtype, device=logits.device)
        return torch.nn.functional.cross_entropy(
            logits, labels.reshape(-1), weight=scale, label_smoothing=smoothing
        )

    return loss
