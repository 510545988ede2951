"""`EncodedSet`: examples as ragged arrays, and the batches made from them.

Everything that feeds a model (accuracy, calibration, latency) takes its batches from here, so that
all runtimes see identical inputs, and no work is spent on padding: batches hold neighbours in length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optkit.errors import DataError


@dataclass(frozen=True)
class EncodedSet:
    """`arrays[name][i]` is input `name` of example `i`; only its first dimension may vary.

    `pad` gives the value that fills a shorter example (0 where unnamed); `truncated` counts the
    examples that were longer than the model's maximum.
    """

    arrays: dict[str, list[np.ndarray]]
    pad: dict[str, int]
    truncated: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), []))

    @property
    def lengths(self) -> np.ndarray:
        """The first dimension of each example: tokens, for text. Shape (examples,)."""
        return np.array([len(a) for a in next(iter(self.arrays.values()), [])], dtype=np.int64)

    def take(self, indices: Sequence[int] | np.ndarray) -> EncodedSet:
        arrays = {name: [rows[i] for i in indices] for name, rows in self.arrays.items()}
        return EncodedSet(arrays, self.pad)

    def cut(self, tokens: int) -> EncodedSet:
        """The first `tokens` tokens of each example; images stay as they are."""
        if next(iter(self.arrays.values()))[0].ndim > 1:
            return self
        return EncodedSet({n: [a[:tokens] for a in rows] for n, rows in self.arrays.items()}, self.pad)

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The examples `indices` as one padded batch, batch first."""
        return {
            name: _pad([rows[i] for i in indices], self.pad.get(name, 0))
            for name, rows in self.arrays.items()
        }

    def batches(self, size: int, max_tokens: int | None = None) -> Iterator[np.ndarray]:
        """Indices of batches of at most `size` examples, longest first, neighbours in length.

        `max_tokens` bounds examples × longest example; one example always fits.
        """
        order = np.argsort(-self.lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = max(int(self.lengths[order[start]]), 1)
            count = size if max_tokens is None else max(1, min(size, max_tokens // longest))
            yield order[start : start + count]
            start += count

    def of_shape(self, batch: int, tokens: int) -> dict[str, np.ndarray]:
        """One batch of exactly batch × tokens without padding, tiled from the real examples.

        For inputs of one fixed size (images) `tokens` is ignored.
        """
        if len(self) == 0:
            raise DataError("Expected at least one example, received none.")
        if len(set(self.lengths.tolist())) == 1 and next(iter(self.arrays.values()))[0].ndim > 1:
            return self.batch(np.arange(batch) % len(self))
        return {
            name: _tile(np.concatenate(rows), batch * tokens).reshape(batch, tokens, *rows[0].shape[1:])
            for name, rows in self.arrays.items()
        }

    def save(self, file: Path) -> None:
        """Write as .npz: per input one flat array and the lengths. No pickle."""
        flat = {f"data:{n}": np.concatenate(rows) for n, rows in self.arrays.items() if rows}
        pads = {f"pad:{n}": np.array(self.pad.get(n, 0)) for n in self.arrays}
        np.savez(file, lengths=self.lengths, truncated=np.array(self.truncated), **flat, **pads)  # type: ignore[arg-type]

    @classmethod
    def load(cls, file: Path) -> EncodedSet:
        with np.load(file, allow_pickle=False) as stored:
            cuts = np.cumsum(stored["lengths"])[:-1]
            arrays = {k[5:]: np.split(stored[k], cuts) for k in stored if k.startswith("data:")}
            pad = {k[4:]: int(stored[k]) for k in stored if k.startswith("pad:")}
            return cls(arrays, pad, int(stored["truncated"]))


def _pad(rows: list[np.ndarray], value: int) -> np.ndarray:
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), longest, *rows[0].shape[1:]), value, dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def _tile(flat: np.ndarray, length: int) -> np.ndarray:
    repeats = -(-length // len(flat))
    return np.concatenate([flat] * repeats)[:length]
