"""Embeddings, as SentenceTransformer gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.sentence_model import SentenceModel

if TYPE_CHECKING:
    from optkit.tasks.labelled import Input


class Embeddings(SentenceModel):
    auto, feature, output = "SentenceTransformer", "sentence_embedding", "sentence_embedding"

    truncates = True

    def cut(self, values: np.ndarray) -> np.ndarray:
        return values[: self.model.truncate_dim] if self.truncates else values

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> None:
        return None


REFERENCE = Embeddings
