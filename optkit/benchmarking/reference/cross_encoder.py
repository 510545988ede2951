"""Pairs of texts, as CrossEncoder judges them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.sentence_model import SentenceModel

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class CrossEncoder(SentenceModel):
    """Logits; a score is its activation function of the only one, a label the largest of several."""

    auto, feature, output = "CrossEncoder", "scores", "logits"

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        import torch

        scores = self.model.activation_fn(torch.from_numpy(np.stack(outputs["logits"])).double()).numpy()
        return [float(row[0]) if len(row) == 1 else int(np.argmax(row)) for row in scores]


REFERENCE = CrossEncoder
