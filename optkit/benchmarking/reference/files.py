"""Models that are fed with what a processor makes of files: images, sounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import BATCH, Outputs, Reference

if TYPE_CHECKING:
    from optkit.tasks.labelled import Input


class FileReference(Reference):
    """An input is a file's path; `processor` makes of it the model's input `feature`."""

    feature: str
    processor: Any

    @abstractmethod
    def features(self, file: str) -> np.ndarray:
        """What the model is fed for one file, without the dimension of the batch."""

    @abstractmethod
    def provoking(self) -> Iterable[tuple[str, bytes]]:
        """Files on which two readers differ if they differ at all: what each is, its content."""

    @property
    def allowed(self) -> float:
        """How far another reader's features may lie apart."""
        return 1e-4

    def rows(self, inputs: Sequence[Input]) -> list[np.ndarray]:
        return [self.features(file) for file in inputs]

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        import torch

        logits: list[np.ndarray] = []
        size = 1 if alone else BATCH
        for start in range(0, len(rows), size):
            batch = torch.from_numpy(np.stack(rows[start : start + size])).to(self.device)
            with torch.inference_mode():
                logits += list(self.model(**{self.feature: batch}).logits.float().cpu().numpy())
            self.progress(len(logits))
        return {"logits": logits}
