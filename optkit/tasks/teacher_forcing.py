"""`TeacherForced`: how models with an encoder and a decoder are trained.

They are shown the target as they write it, and the epoch is kept that finds those of validation likeliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.models.task import Shape
from optkit.tasks import text_metrics
from optkit.tasks.base import Outputs, Task

if TYPE_CHECKING:
    import torch


class TeacherForced(Task):
    """Its targets are the argument `labels`: the tokens of a text, what a text begins with left out."""

    has_encoder: ClassVar[bool] = True

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "target", model.config.vocab_size)}

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """Targets have lengths of their own."""
        labels = EncodedSet(targets, dict.fromkeys(targets, -100)).batch(indices)
        return {**encoded.batch(indices), **labels}

    def reduced(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, vocabulary) → log-probability of each target in all, and its tokens: (batch, 2)."""
        import torch

        logits = logits[0] if isinstance(logits, tuple) else logits
        flat = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
        )
        return torch.stack([-flat.sum(dim=1), (labels >= 0).sum(dim=1).float()], dim=1)

    def reduced_outputs(self, network: torch.nn.Module) -> dict[str, Shape]:
        return {text_metrics.TRAINED_BY: ("batch", 2)}

    @staticmethod
    def likelihoods(outputs: Outputs) -> np.ndarray | None:
        """Of training the log-probabilities and their number, (examples, 2); None for written texts."""
        rows = outputs.get(text_metrics.TRAINED_BY)
        return None if rows is None else np.stack(list(rows)).astype(np.float64)
