"""`EncodedSet`: examples as ragged arrays, and the batches made from them.

Everything that feeds a model (accuracy, calibration, latency) takes its batches from here, so that
all runtimes see identical inputs, and no work is spent on padding: batches hold neighbours in length.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from optkit.errors import DataError

#: The most numbers in one batch of images: 32 of 3 x 384 x 384.
MOST_NUMBERS = 15_000_000
#: Samples of sound that count as one token: 20 ms at 16,000 a second.
SAMPLES = 320


@dataclass(frozen=True)
class Windows:
    """How examples that are longer than the model come back together from the windows they were cut into.

    `owner` (windows,) is the example of each window; the windows of one example follow each other.
    `picks[w]` are the positions of window `w` whose outputs count. `carried[name][e]` is what decoding
    example `e` needs beside the outputs: offsets, characters.
    """

    owner: np.ndarray
    picks: list[np.ndarray]
    carried: dict[str, list[np.ndarray]]

    @classmethod
    def of_rows(cls, counts: Sequence[int], width: int, **carried: list[np.ndarray]) -> Windows:
        """For examples of `counts` whole rows each, all `width` numbers of whose outputs count."""
        owner = np.repeat(np.arange(len(counts)), counts)
        return cls(owner, [np.arange(width)] * len(owner), carried)

    def gather(self, outputs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
        """Outputs per token and window become outputs per example: the picked rows, in order."""
        return self.joined(
            {n: [row[pick] for row, pick in zip(rows, self.picks)] for n, rows in outputs.items()}
        )

    def joined(self, outputs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
        """The same, of outputs that hold the picked rows of each window alone."""
        count = len(next(iter(self.carried.values())))
        cuts = np.searchsorted(self.owner, np.arange(1, count))
        gathered: dict[str, list[np.ndarray]] = {name: list(rows) for name, rows in self.carried.items()}
        for name, rows in outputs.items():
            bounds = [0, *cuts.tolist(), len(rows)]
            gathered[name] = [np.concatenate(rows[a:b]) for a, b in pairwise(bounds)]
        return gathered


@dataclass(frozen=True)
class EncodedSet:
    """`arrays[name][i]` is input `name` of example `i`; only its first dimension may vary, but for images.

    `pad` gives the value that fills a shorter example (0 where unnamed); `truncated` counts the
    examples that were longer than the model's maximum. With `windows`, the "examples" here are windows,
    and `infer_all` gives the outputs of the examples they come from.
    """

    arrays: dict[str, list[np.ndarray]]
    pad: dict[str, int]
    truncated: int = 0
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), []))

    @property
    def lengths(self) -> np.ndarray:
        """The first dimension of each example: tokens, for text. Shape (examples,)."""
        return np.array([len(a) for a in next(iter(self.arrays.values()), [])], dtype=np.int64)

    @property
    def ragged(self) -> bool:
        """Whether examples may differ in length, as texts do and images do not: by the first input. A token's
        box has numbers of its own."""
        return all(rows[0].ndim == 1 for rows in list(self.arrays.values())[:1] if rows)

    @property
    def sizes(self) -> list[tuple[tuple[int, ...], ...]]:
        """The shapes of each example's inputs, all their dimensions."""
        return [tuple(row.shape for row in rows) for rows in zip(*self.arrays.values())]

    @property
    def is_sound(self) -> bool:
        """Whether these are samples of sound: no mask hides what fills one up, so none shares a batch with
        a longer one."""
        return self.ragged and any(
            rows[0].dtype.kind == "f" for rows in list(self.arrays.values())[:1] if rows
        )

    @property
    def tokens(self) -> np.ndarray:
        """Lengths as limits count them: tokens, or 20 ms of sound, of which a sample is no token."""
        return np.maximum(self.lengths // SAMPLES, 1) if self.is_sound else self.lengths

    def take(self, indices: Sequence[int] | np.ndarray) -> EncodedSet:
        arrays = {name: [rows[i] for i in indices] for name, rows in self.arrays.items()}
        return EncodedSet(arrays, self.pad)

    def first(self, count: int) -> EncodedSet:
        """The first `count` examples, with all of their windows."""
        if self.windows is None:
            return self.take(range(min(count, len(self))))
        w = self.windows
        rows = range(int(np.searchsorted(w.owner, count)))
        carried = {name: values[:count] for name, values in w.carried.items()}
        windows = Windows(w.owner[: len(rows)], [w.picks[i] for i in rows], carried)
        return replace(self.take(rows), windows=windows)

    def and_also(self, others: EncodedSet) -> EncodedSet:
        """These examples, then `others`, which have the same inputs. Windows do not come back together."""
        arrays = {name: [*rows, *others.arrays[name]] for name, rows in self.arrays.items()}
        return EncodedSet(arrays, self.pad, self.truncated + others.truncated)

    def cut(self, tokens: int) -> EncodedSet:
        """The first `tokens` tokens of each example; images stay as they are."""
        if next(iter(self.arrays.values()))[0].ndim > 1:
            return self
        return EncodedSet({n: [a[:tokens] for a in rows] for n, rows in self.arrays.items()}, self.pad)

    def digest(self) -> str:
        """Changes when any value does."""
        hasher = hashlib.sha256()
        for name, rows in sorted(self.arrays.items()):
            hasher.update(name.encode())
            for row in rows:
                hasher.update(repr(row.shape).encode() + np.ascontiguousarray(row).tobytes())
        return hasher.hexdigest()

    def batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The examples `indices` as one padded batch, batch first."""
        return {
            name: _pad([rows[i] for i in indices], self.pad.get(name, 0))
            for name, rows in self.arrays.items()
        }

    def batches(self, size: int, max_tokens: int | None = None) -> Iterator[np.ndarray]:
        """Indices of batches of at most `size` examples, longest first, neighbours in length.

        `max_tokens` bounds examples × longest example; one example always fits. Images share a batch with
        others whose inputs have their sizes alone, so that none is padded, and with so many that it holds
        `MOST_NUMBERS`.
        """
        if not self.ragged:
            groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
            for i, shapes in enumerate(self.sizes):
                groups.setdefault(shapes, []).append(i)
            for shapes, same in groups.items():
                numbers = sum(int(np.prod(shape)) for shape in shapes)
                count = max(1, min(size, MOST_NUMBERS // numbers))
                yield from (np.array(same[i : i + count]) for i in range(0, len(same), count))
            return
        lengths, tokens = self.lengths, self.tokens
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = max(int(tokens[order[start]]), 1)
            count = size if max_tokens is None else max(1, min(size, max_tokens // longest))
            batch = order[start : start + count]
            if self.is_sound:
                batch = batch[lengths[batch] == lengths[batch[0]]]
            yield batch
            start += len(batch)

    def of_shape(self, batch: int, tokens: int) -> dict[str, np.ndarray]:
        """One batch of exactly batch × tokens without padding, tiled from the real examples.

        For images `tokens` is ignored; where their sizes differ, all are of the size of the first.
        """
        if len(self) == 0:
            raise DataError("Expected at least one example, received none.")
        if not self.ragged:
            sizes = self.sizes
            same = np.flatnonzero([size == sizes[0] for size in sizes])
            return self.batch(same[np.arange(batch) % len(same)])
        return {
            name: _tile(np.concatenate(rows), batch * tokens).reshape(batch, tokens, *rows[0].shape[1:])
            for name, rows in self.arrays.items()
        }

    def save(self, file: Path) -> None:
        """Write as .npz, so that a reader never sees half of it: per input one flat array and the lengths.

        No pickle.
        """
        flat = {f"data:{n}": np.concatenate(rows) for n, rows in self.arrays.items() if rows and self.ragged}
        for name, rows in () if self.ragged else self.arrays.items():
            flat[f"data:{name}"] = np.concatenate([row.reshape(-1) for row in rows])
            flat[f"sizes:{name}"] = np.array([row.shape for row in rows])
        pads = {f"pad:{n}": np.array(self.pad.get(n, 0)) for n in self.arrays}
        cuts = _stored(self.windows) if self.windows else {}
        part = file.with_name(f".{file.name}.partial-{os.getpid()}")
        with part.open("wb") as stream:
            np.savez(stream, lengths=self.lengths, truncated=np.array(self.truncated), **flat, **pads, **cuts)  # type: ignore[arg-type]
        part.replace(file)

    @classmethod
    def load(cls, file: Path) -> EncodedSet:
        with np.load(file, allow_pickle=False) as stored:
            cuts = np.cumsum(stored["lengths"])[:-1]
            arrays = {k[5:]: np.split(stored[k], cuts) for k in stored if k.startswith("data:")}
            for key in (k[6:] for k in stored if k.startswith("sizes:")):
                sizes = stored[f"sizes:{key}"]
                rows = np.split(stored[f"data:{key}"], np.cumsum(sizes.prod(axis=1))[:-1])
                arrays[key] = [row.reshape(size) for row, size in zip(rows, sizes)]
            pad = {k[4:]: int(stored[k]) for k in stored if k.startswith("pad:")}
            return cls(arrays, pad, int(stored["truncated"]), _windows(stored))


def characters(item: object) -> int:
    """How many characters the texts in `item` have, however nested.

    >>> characters(("who?", ["he", "she"]))
    9
    """
    if isinstance(item, Mapping):
        item = list(item.values())
    if isinstance(item, (list, tuple)):
        return sum(map(characters, item))
    return len(item) if isinstance(item, str) else 0


def _stored(windows: Windows) -> dict[str, np.ndarray]:
    """Flat arrays and their lengths, for `EncodedSet.save`."""
    ragged = {"picks": windows.picks, **{f"carried:{n}": rows for n, rows in windows.carried.items()}}
    flat = {f"window:{n}": np.concatenate(rows) for n, rows in ragged.items()}
    counts = {f"counts:{n}": np.array([len(row) for row in rows]) for n, rows in ragged.items()}
    return {"owner": windows.owner, **flat, **counts}


def _windows(stored: Mapping[str, np.ndarray]) -> Windows | None:
    if "owner" not in stored:
        return None
    ragged = {
        key[7:]: np.split(stored[key], np.cumsum(stored[f"counts:{key[7:]}"])[:-1])
        for key in stored
        if key.startswith("window:")
    }
    carried = {name[8:]: rows for name, rows in ragged.items() if name.startswith("carried:")}
    return Windows(stored["owner"], ragged["picks"], carried)


def _pad(rows: list[np.ndarray], value: int) -> np.ndarray:
    shape = tuple(map(max, zip(*(row.shape for row in rows))))
    out = np.full((len(rows), *shape), value, dtype=rows[0].dtype)
    for i, row in enumerate(rows):
        corner: tuple[int | slice, ...] = (i, *(slice(size) for size in row.shape))
        out[corner] = row
    return out


def _tile(flat: np.ndarray, length: int) -> np.ndarray:
    repeats = -(-length // len(flat))
    return np.concatenate([flat] * repeats)[:length]
