"""Classifiers of texts, as TextClassificationPipeline runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row, TextReference, split

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class TextClassification(TextReference):
    auto = "AutoModelForSequenceClassification"

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        pairs = bool(inputs) and not isinstance(inputs[0], str)
        texts = ([a for a, _ in inputs], [b for _, b in inputs]) if pairs else (list(inputs),)
        return split(self.tokenizer(*texts, truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        return {"logits": [answer["logits"] for answer in self.forward(rows, alone)]}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        """As TextClassificationPipeline: sigmoid for several labels, the largest for one, else the number."""
        config = self.model.config
        problem = config.problem_type
        if problem == "regression" or (problem is None and config.num_labels == 1):
            return [float(row[0]) if len(row) == 1 else row.tolist() for row in outputs["logits"]]
        if problem == "multi_label_classification":
            return [
                (1 / (1 + np.exp(-row.astype(np.float64))) > 0.5).astype(int).tolist()
                for row in outputs["logits"]
            ]
        return [int(np.argmax(row)) for row in outputs["logits"]]


REFERENCE = TextClassification
