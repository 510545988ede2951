"""Multi-vector embeddings, as MultiVectorEncoder gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import BATCH, Outputs, Row
from optkit.benchmarking.reference.sentence_model import SentenceModel

if TYPE_CHECKING:
    from optkit.tasks.labelled import Input


class MultiVectorEmbeddings(SentenceModel):
    """`encode_query`, `encode_document`, and `encode` for a text that says neither."""

    auto, feature, output = "MultiVectorEncoder", "token_embeddings", "token_embeddings"

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        rows: list[Row] = [{}] * len(inputs)
        for side, places, texts in _sides(inputs):
            prompt = self.model.prompts.get(side) if side else self.prompt
            for i, text in zip(places, texts):
                features = self.model.preprocess([text], prompt=prompt, task=side)
                names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in features]
                rows[i] = {name: features[name][0].tolist() for name in names}
        return rows

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        vectors: list[np.ndarray] = [np.empty(0)] * len(inputs)
        for side, places, texts in _sides(inputs):
            encode = getattr(self.model, f"encode_{side}" if side else "encode")
            given = encode(texts, batch_size=1 if alone else BATCH, convert_to_numpy=True)
            for i, values in zip(places, given):
                vectors[i] = values
            self.progress(len(places))
        return {self.output: vectors}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> None:
        return None


def _sides(inputs: Sequence[Input]) -> Iterator[tuple[str | None, list[int], list[str]]]:
    """query, document or None, the places of such inputs, and their texts."""
    named = [next(iter(x.items())) if isinstance(x, dict) else (None, x) for x in inputs]
    for side in (None, "query", "document"):
        if places := [i for i, (one, _) in enumerate(named) if one == side]:
            yield side, places, [named[i][1] for i in places]


REFERENCE = MultiVectorEmbeddings
