"""`Trainable`: the half of a task that fine-tuning asks for. torch is imported inside functions only.

A task can be fine-tuned where it says `for_training` and `targets`; `finetune` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.models.task import ModelTask, Shape
from optkit.tasks.labelled import Columns, Labelled, Outputs

if TYPE_CHECKING:
    import datasets
    import torch


class Trainable(ModelTask):
    """What differs per task in training; the task itself reads and scores the data."""

    #: What fine-tunes its models, where that is another task or not optkit.
    trained_by: ClassVar[str] = ""
    #: Whether other tasks are asked first which of them the data is for.
    asked_last: ClassVar[bool] = False
    #: Parts of the model below the head, by name, that follow from the labels and so may be new.
    new_parts: ClassVar[tuple[str, ...]] = ("pooler",)

    #: Whether the sentence-transformers modules of a checkpoint are those of the one that is made of it.
    keeps_modules: ClassVar[bool] = False
    #: What `collate` may give beside the model's inputs and targets.
    trained_with: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Whether data with these columns is for this task, where nobody named one."""
        return False

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """Changes to the model's config.json that follow from the training rows (labels, problem).

        Raises DataError.
        """
        return {}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Self:
        """The task with the labels of `config`, reading with the tokenizer or processor of `source`."""
        raise NotImplementedError

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """Argument of the model's forward method → one target array per encoded row (window)."""
        raise NotImplementedError

    def class_counts(self, labelled: Labelled) -> np.ndarray | None:
        """Targets per class, shape (classes,); None where an example has no single class."""
        return None

    def backbone(self, network: torch.nn.Module) -> torch.nn.Module:
        """The pretrained part of `network`, without the head."""
        return network.base_model

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """What `read` gave, with one encoded row per thing to learn from.

        `seed` draws where training is random; None for the split that is scored after each epoch.
        """
        return labelled

    def network(
        self, source: Artifact, config: dict[str, Any], load: Callable[..., torch.nn.Module]
    ) -> torch.nn.Module:
        """The torch module to train; `load(auto_class, **config)` is transformers' from_pretrained."""
        return load(self.auto_class, **config)

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """The rows `indices` as one batch, targets included; the loss leaves out -100, which fills them."""
        per_token = {name: rows for name, rows in targets.items() if rows and rows[0].ndim}
        single = {
            name: np.stack([rows[i] for i in indices])
            for name, rows in targets.items()
            if name not in per_token
        }
        pad = encoded.pad | dict.fromkeys(per_token, -100)
        return {**EncodedSet({**encoded.arrays, **per_token}, pad).batch(indices), **single}

    @property
    def compares_rows(self) -> bool:
        """Whether the loss of a row depends on the others of its batch, so that no batch may be parted."""
        return False

    def reduced(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What is needed of a batch's outputs (tensors) to score them, until a whole split is answered."""
        return logits

    def reduced_outputs(self, network: torch.nn.Module) -> dict[str, Shape]:
        """Names and shapes of what `reduced` gives."""
        return self.model_outputs(network)

    def settled(self, outputs: Outputs, references: Sequence[Any]) -> Self:
        """The task with what is chosen by a model's outputs for validation; here nothing is."""
        return self

    @property
    def settled_config(self) -> dict[str, Any]:
        """What `settled` has chosen, as keys of config.json."""
        return {}

    def save(self, network: torch.nn.Module, folder: Path) -> None:
        """Write weights and config, with what was `settled`, into `folder`."""
        for key, value in self.settled_config.items():
            setattr(network.config, key, value)
        network.save_pretrained(str(folder), safe_serialization=True)

    def tokenizer_settings(self, source: Artifact) -> dict[str, Any]:
        """What of tokenizer_config.json is other than the source's, where this task reads so."""
        return {}
