"""Taggers of words on a page, fed as transformers' examples of LayoutLM do it, or by a tokenizer of boxes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row
from optkit.benchmarking.reference.token_classification import TokenClassification

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class LayoutTokenClassification(TokenClassification):
    """Each window goes through the model by itself: `tokenizer.pad` pads no boxes."""

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        words, boxes = ([page[part] for page in inputs] for part in ("words", "boxes"))
        by_tokenizer = "boxes" in inspect.signature(self.tokenizer.__call__).parameters
        how = {"boxes": boxes} if by_tokenizer else {"is_split_into_words": True}
        rows = self.windows(words, truncation=True, **how)
        for window, row in enumerate(rows):
            if by_tokenizer:
                row["bbox"] = self.encoding["bbox"][window]
                continue
            page, bbox = boxes[self.owner[window]], list[list[Any]]()
            for word in self.encoding.word_ids(window):  # as transformers' example: zeros, words, 1000
                special = [1000] * 4 if bbox else [0] * 4
                bbox.append(special if word is None else list(page[word]))
            if self.model.config.model_type == "bros":
                bbox = [[x / 1000 for x in box] for box in bbox]
            row["bbox"] = bbox  # type: ignore[assignment]  # four numbers for each token
        return rows

    def forward(self, rows: Sequence[Row], alone: bool = False) -> list[dict[str, np.ndarray]]:
        return super().forward(rows, alone=True)

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        return super().outputs(rows, [page["words"] for page in inputs], alone)

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        return super().answers(outputs, [page["words"] for page in inputs])


REFERENCE = LayoutTokenClassification
