"""A task that declares how it is read, without a class of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row, TextReference, split

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.base import Task
    from optkit.tasks.labelled import Input


class DeclaredModel(TextReference):
    """Texts as they are, truncated; what is read of the model's outputs is as the task `declared` says."""

    declared: Task

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        return split(self.tokenizer(list(inputs), truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        answered = self.forward(rows, alone)
        return {name: [one[name] for one in answered] for name in (answered[0] if answered else ())}

    def scored(self, row: Row, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.declared.plain_outputs(self.tokenizer, row["input_ids"], outputs)

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json] | None:
        return self.declared.plain_answers(self.tokenizer, outputs)
