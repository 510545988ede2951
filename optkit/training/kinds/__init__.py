"""`Kind`: what fine-tuning must know of a task. One file per task; the file's name is the task's name.

Adding one: a file here whose `KIND` is an instance of a subclass. `finetune` does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar

import numpy as np

from optkit.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, RecipeError, did_you_mean
from optkit.models.checkpoint import model_outputs
from optkit.tasks.base import Columns, Labelled, Task


class Kind(ABC):
    """The task-specific half of `finetune`."""

    #: The transformers class that carries the head.
    auto_class: ClassVar[str]
    #: What fills the targets of a shorter example in a batch; the loss leaves -100 out.
    target_pad: ClassVar[int] = -100
    #: Names of the model's inputs that a batch may hold.
    inputs: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def fits(self, rows: Any, columns: Columns) -> bool:
        """Whether data with these columns is for this task, where nobody named one."""

    @abstractmethod
    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        """Changes to the model's config.json that follow from the training rows (labels, problem).

        Raises DataError.
        """

    @abstractmethod
    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        """The task with the labels of `config`, reading with the tokenizer or processor of `source`."""

    @abstractmethod
    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """Argument of the model's forward method → one target array per encoded row (window)."""

    def class_counts(self, task: Task, labelled: Labelled) -> np.ndarray | None:
        """Targets per class, shape (classes,); None where an example has no single class."""
        return None

    def backbone(self, network: Any) -> Any:
        """The pretrained part of `network`, without the head."""
        return network.base_model

    def prepared(self, labelled: Labelled) -> Labelled:
        """What `task.read` gave, with one encoded row per thing to learn from."""
        return labelled

    def network(self, source: Artifact, config: dict[str, Any], load: Any) -> Any:
        """The torch module to train; `load(auto_class, **config)` is transformers' from_pretrained."""
        return load(self.auto_class, **config)

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> Any:
        """The rows `indices` as one batch of numpy arrays, targets included."""
        both = EncodedSet(
            {**encoded.arrays, **targets}, {**encoded.pad, **{name: self.target_pad for name in targets}}
        )
        return both.batch(indices)

    def reduced(self, logits: Any, labels: Any) -> Any:
        """What is kept of a batch's outputs (tensors) until a whole split is answered."""
        return logits

    def outputs(self, network: Any) -> dict[str, tuple[int | str, ...]]:
        """Names and shapes of what `reduced` keeps."""
        return model_outputs(network)

    def save(self, network: Any, folder: Path) -> None:
        """Write weights and config into `folder`."""
        network.save_pretrained(str(folder), safe_serialization=True)

    def tokenizer_settings(self, task: Task, source: Artifact) -> dict[str, Any]:
        """What of tokenizer_config.json is other than the source's, where `task` reads so."""
        return {}


def labels_config(labels: Sequence[str]) -> dict[str, Any]:
    """config.json's keys for these labels."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def known_kinds() -> dict[str, str]:
    """Task name → module under `optkit.training.kinds`."""
    return {m.name.replace("_", "-"): m.name for m in iter_modules([str(Path(__file__).parent)])}


def open_kind(name: str | None, rows: Any, columns: Columns) -> tuple[str, Kind]:
    """The kind of task `name`; without a name, the first whose columns the data has.

    Text classification is asked last, as any table with a text and a label fits it. Raises RecipeError for
    a task that is not known, DataError where no column is known as the label.
    """
    known = known_kinds()
    if name is not None:
        if name not in known:
            raise RecipeError(f"The task {name!r} cannot be fine-tuned.", hint=did_you_mean(name, known))
        return name, _load(known[name])
    last = "text-classification"
    for candidate in sorted(set(known) - {last}):
        kind = _load(known[candidate])
        if kind.fits(rows, columns):
            return candidate, kind
    kind, have = _load(known[last]), list(rows.column_names)
    if not kind.fits(rows, columns):
        raise DataError(
            f"Cannot tell which column holds the label; columns: {', '.join(have)}.",
            hint="Name it with --label-column. Texts without labels are for a decoder: --task causal-lm.",
        )
    return last, kind


def _load(module: str) -> Kind:
    return import_module(f"optkit.training.kinds.{module}").KIND
