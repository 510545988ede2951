"""`FinetuneSettings`: how a model is fine-tuned, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from optkit.core.quantities import (
    COUNT,
    EPOCHS,
    FACTOR,
    LENGTH,
    RANK,
    RATE,
    RATE_OR_NONE,
    SEED,
    SHARE,
    check_all,
)
from optkit.errors import RecipeError, did_you_mean

#: Name → the Trainer's own name.
OPTIMIZERS = {
    "adamw": "adamw_torch",
    "sgd": "sgd",
    "adafactor": "adafactor",
    "adagrad": "adagrad",
    "rmsprop": "rmsprop",
}
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")
PRECISIONS = ("fp32", "bf16", "fp16")
CLASS_WEIGHTS = ("none", "balanced")
QUANTITIES = {
    "epochs": EPOCHS,
    "batch": COUNT,
    "learning_rate": RATE,
    "warmup": SHARE,
    "weight_decay": RATE_OR_NONE,
    "max_length": LENGTH,
    "seed": SEED,
    "patience": COUNT,
    "label_smoothing": SHARE,
    "accumulate": COUNT,
    "lora": RANK,
    "head_rate": FACTOR,
}


@dataclass(frozen=True)
class FinetuneSettings:
    """`batch` is examples per step over all processes, `learning_rate` the peak after `warmup` (a share
    of all steps). Weights that the checkpoint does not have, a new head, learn `head_rate` times as fast:
    they start from nothing, and an optimizer such as AdamW moves a weight by about the learning rate per
    step, whatever its gradient.

    `max_length` bounds tokens per example while training (None: the model's own limit). `patience` ends
    the run after that many epochs without a better score (None: never). `accumulate` splits a batch into
    so many parts, which bounds memory and not the result; `gradient_checkpointing` computes activations
    twice for the same reason. `precision` is that of the products: fp32, bf16, fp16 (on a GPU).
    `class_weights` "balanced" gives every class the same weight in the loss, however rare. `lora` is the
    rank of low-rank adapters that train in place of the weights (0: the weights themselves), and are
    merged into them at the end (Hu et al., "LoRA", ICLR 2022). `fsdp` shards a model that does not fit
    one GPU over all of them.
    """

    epochs: float = 3.0
    batch: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_length: int | None = 128
    seed: int = 0
    optimizer: str = "adamw"
    schedule: str = "linear"
    patience: int | None = None
    label_smoothing: float = 0.0
    accumulate: int = 1
    gradient_checkpointing: bool = False
    precision: str = "fp32"
    class_weights: str = "none"
    lora: int = 0
    fsdp: bool = False
    head_rate: float = 10.0

    def __post_init__(self) -> None:
        check_all(self, QUANTITIES)
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("class_weights", CLASS_WEIGHTS),
        ):
            value = getattr(self, name)
            if value not in known:
                raise RecipeError(
                    f"Expected {name} to be one of {', '.join(known)}, received {value!r}.",
                    hint=did_you_mean(value, known),
                )
        if self.batch % self.accumulate:
            raise RecipeError(
                f"Expected a batch that {self.accumulate} parts divide evenly, received {self.batch}."
            )
