"""Fine-tuning for extractive question answering: where the answer begins and ends in each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.models.text import TextEncoder
from optkit.tasks.base import Columns, Labelled, Task
from optkit.tasks.question_answering import QuestionAnswering
from optkit.training.kinds import Kind


class QuestionAnsweringKind(Kind):
    auto_class = "AutoModelForQuestionAnswering"

    def fits(self, rows: Any, columns: Columns) -> bool:
        return {"question", "context", "answers"} <= set(rows.column_names)

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        return {}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        encoder = TextEncoder(source.path)
        encoder.truncate(max_length)
        return QuestionAnswering("f1", encoder)

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The first answer's tokens; position 0, which holds no context, in windows without it."""
        windows = labelled.encoded.windows
        assert windows is not None
        offsets, numbers = windows.carried["offsets"], windows.carried["window"]
        starts, ends, before, number = [], [], -1, 0
        for owner, picks in zip(windows.owner, windows.picks):
            number = number + 1 if owner == before else 0
            before = owner
            spans = offsets[owner].reshape(-1, 2)[numbers[owner] == number]
            reference = labelled.references[owner]
            begin = reference["answer_start"][0]
            end = begin + len(reference["text"][0])
            first = np.flatnonzero((spans[:, 0] <= begin) & (spans[:, 1] > begin))
            last = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] >= end))
            whole = len(first) and len(last)
            starts.append(np.array(picks[first[0]] if whole else 0, dtype=np.int64))
            ends.append(np.array(picks[last[0]] if whole else 0, dtype=np.int64))
        return {"start_positions": starts, "end_positions": ends}

    def collate(self, encoded: Any, targets: Any, indices: Any) -> Any:
        batch = encoded.batch(indices)
        return {**batch, **{name: np.stack([rows[i] for i in indices]) for name, rows in targets.items()}}


KIND = QuestionAnsweringKind()
