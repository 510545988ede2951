"""Batches that hold the same rows for any number of processes and parts, each row counted once.

A process computes the mean loss of its part of a batch. Parts differ in what they hold: rows at the end of
an epoch, tokens, weights of classes. The mean over the whole batch weighs each part by its mass, the sum of
the weights of what it predicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


#: The place of a row that is none: with such rows the last batch gives every process a part.
FILL = -1
#: Keys in a batch beside the model's inputs: the mass of a part, and its share of the whole batch's.
MASS, SHARE = "mass", "share"


@dataclass(frozen=True)
class Rows:
    """A data set for the Trainer: the place of each encoded row in its split, and `FILL` behind the last."""

    lengths: Sequence[int]
    split: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"split": self.split, "index": index if index < len(self.lengths) else FILL}


def places(items: Sequence[Mapping[str, int]]) -> list[int]:
    """Of what `Rows` gave, the rows that are some; []: a part of nothing, which has no mass."""
    return [item["index"] for item in items if item["index"] != FILL]


def mass(rows: int, labels: np.ndarray | None = None, weights: np.ndarray | None = None) -> float:
    """What divides the sum of a part's losses where its loss is their mean.

    Labels that are classes (whole numbers) count each, by its weight, and below 0 not at all.

    >>> mass(2, np.array([[0, 1], [1, -100]])), mass(2, np.array([0, 1]), np.array([0.5, 2.0]))
    (3.0, 2.5)
    >>> mass(2, np.array([0.5, 0.1]))
    2.0
    """
    if labels is None or labels.dtype.kind != "i":
        return float(rows)
    counted = labels[labels >= 0]
    return float(counted.size if weights is None else weights[counted].sum())


def grouped(rows: Rows, batch: int, parts: int, seed: int) -> torch.utils.data.Sampler[int]:
    """A sampler whose batches hold neighbours in length, filled up so that `parts` rows divide it.

    The Trainer's own groups by the batch of one process: two would train in another order. The order of an
    epoch follows from seed and epoch alone, so that a resumed run continues it.
    """
    import torch
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class Grouped(LengthGroupedSampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return len(rows) + -len(rows) % parts

        def __iter__(self) -> Iterator[int]:
            self.generator.manual_seed(seed + self.epoch)
            yield from super().__iter__()
            yield from range(len(rows), len(self))

    return Grouped(batch, lengths=list(rows.lengths), generator=torch.Generator())


def shared(loss: torch.Tensor, outputs: Mapping[str, Any], share: torch.Tensor) -> torch.Tensor:
    """`loss`, the mean of a part, as its summand of the whole batch's mean; None: a part without mass."""
    if share is not None:
        return loss * share
    # The mean of nothing is no number; what was computed takes part with gradients of 0.
    return sum(
        v.sum() * 0.0 for n, v in outputs.items() if n != "loss" and getattr(v, "requires_grad", False)
    )
