"""Fine-tuning for causal language modelling: every token of a document learns the one behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.data import column
from optkit.likelihood import NONE, OUTPUT, TARGETS
from optkit.task import Columns, Labelled, Task
from optkit.tasks.causal_lm import COLUMNS, CausalLM
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS
from optkit.training.kinds import Kind


class CausalLMKind(Kind):
    auto_class = "AutoModelForCausalLM"

    def fits(self, rows: Any, columns: Columns) -> bool:
        """Texts and nothing to predict from them."""
        names = rows.column_names
        there = columns.text in names if columns.text else any(n in names for n in COLUMNS)
        labels = {*TEXT_COLUMNS["label"], *TEXT_COLUMNS["pair"]}
        return there and columns.label is None and columns.pair is None and not labels & set(names)

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        column(rows, columns.text, COLUMNS, "text", "--text-column")
        return {}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        task = CausalLM.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The tokens themselves, which the model shifts by one; a token of two windows is learned once."""
        return {"labels": [np.roll(row, 1) for row in labelled.encoded.arrays[TARGETS]]}

    def reduced(self, logits: Any, labels: Any) -> Any:
        """(batch, tokens, vocabulary) → log-likelihood of the token behind each, (batch, tokens)."""
        import torch

        logits = logits[0] if isinstance(logits, tuple) else logits
        behind = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=NONE)
        flat = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), behind, ignore_index=NONE, reduction="none"
        )
        return -flat

    def outputs(self, network: Any) -> dict[str, tuple[int | str, ...]]:
        return {OUTPUT: ("batch", "sequence")}


KIND = CausalLMKind()
