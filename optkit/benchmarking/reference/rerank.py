"""A query and its candidates, as CrossEncoder judges each pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row
from optkit.benchmarking.reference.cross_encoder import CrossEncoder


class Rerank(CrossEncoder):
    """`CrossEncoder.predict` of each query with each of its candidates."""

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        self.owner = [i for i, (_, candidates) in enumerate(inputs) for _ in candidates]
        return super().rows(_pairs(inputs))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        flat = np.concatenate(super().outputs(rows, _pairs(inputs), alone)[self.output])
        ends = np.cumsum([len(candidates) for _, candidates in inputs])
        return {self.output: np.split(flat, ends[:-1])}

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        import torch

        score = self.model.activation_fn
        return [score(torch.from_numpy(row).double()).tolist() for row in outputs[self.output]]


def _pairs(inputs: Sequence[Any]) -> list[tuple[str, str]]:
    return [(query, text) for query, candidates in inputs for text in candidates]


REFERENCE = Rerank
