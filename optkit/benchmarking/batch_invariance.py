"""Does an answer depend on its neighbours? The same text alone, padded, and in a batch with others.

An INT8 scale taken from each batch at run time moves with the texts in it; a fixed one does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optkit.benchmarking.accuracy import Outputs
from optkit.data.examples import EncodedSet
from optkit.runtimes import token_logprobs
from optkit.runtimes.base import Session

#: Examples asked, and how many share a batch.
EXAMPLES, TOGETHER = 64, 8
#: Most that an output may move, as a share of the largest output, for an answer to count as its own:
#: a float kernel chosen by shape may round a value near the edge of an INT8 step the other way.
ALLOWED = 0.02


@dataclass(frozen=True)
class Neighbours:
    """What changed against each example's answer alone and without padding.

    `padded` and `batched` are the largest absolute differences of an output; `flipped` counts the
    examples whose prediction changed in either.
    """

    examples: int
    padded: float
    batched: float
    largest_output: float
    flipped: int

    @property
    def invariant(self) -> bool:
        """No prediction changed, and no output moved by more than `ALLOWED` of the largest."""
        most = ALLOWED * self.largest_output
        return self.examples > 0 and self.flipped == 0 and self.padded <= most and self.batched <= most

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "largest_difference": float(np.maximum(self.padded, self.batched)),
            "flipped_share": self.flipped / self.examples if self.examples else 0.0,
            "invariant": self.invariant,
        }


def ask(session: Session, encoded: EncodedSet, examples: int = EXAMPLES) -> dict[str, Outputs]:
    """`alone`, `padded` and `batched` outputs of the same examples, drawn with a fixed seed.

    Batches hold texts in random order, so that short ones meet long ones. Images are never padded:
    those of one size share a batch.
    """
    picked = np.random.default_rng(0).permutation(len(encoded))[:examples]
    some = encoded.take(picked)
    if some.is_sound:  # which shares a batch with what is equally long alone
        some = some.cut(int(some.lengths.min()))
    longest = int(np.argmax(some.lengths))
    indices, lengths = range(len(some)), some.lengths
    alone = [_run(session, some.batch([i])) for i in indices]
    if some.ragged:
        padded = [_run(session, _first(some.batch([i, longest]))) for i in indices]
        groups = [list(indices[start : start + TOGETHER]) for start in range(0, len(some), TOGETHER)]
    else:
        padded, groups = alone, [group.tolist() for group in some.batches(TOGETHER)]
    batched: list[dict[str, np.ndarray]] = [{}] * len(some)
    widths = [0] * len(some)
    for group in groups:
        answered = _answers(session, some.batch(group))
        for row, i in enumerate(group):
            batched[i] = {name: value[row] for name, value in answered.items()}
            widths[i] = int(lengths[group].max())
    parts = {"alone": alone, "padded": padded, "batched": batched}
    tokens: dict[str, list[int]] = {
        "alone": lengths.tolist(),
        "padded": [int(lengths[longest])] * len(some),
        "batched": widths,
    }
    # A value per token is as long as its batch was padded to, in every batch there is.
    per_token = {
        name
        for name in (alone[0] if alone else ())
        if all(
            row[name].ndim and len(row[name]) == n for how in parts for row, n in zip(parts[how], tokens[how])
        )
    }
    return {how: _columns(rows, lengths, per_token) for how, rows in parts.items()}


def compare(outputs: dict[str, Outputs], answers: Callable[[Outputs], np.ndarray]) -> Neighbours:
    """`outputs` as `ask` gives it; `answers` turns outputs into predictions, as the task does."""
    alone = outputs["alone"]
    count = len(next(iter(alone.values()), []))
    flipped = np.zeros(count, dtype=bool)
    before = answers(alone)
    for how in ("padded", "batched"):
        after = answers(outputs[how])
        for i in range(count):
            same = before[i] == after[i] if before.dtype.kind != "f" else True
            flipped[i] |= not np.all(same)
    moved = {how: _largest_difference(alone, outputs[how]) for how in ("padded", "batched")}
    largest = max((float(np.abs(row).max()) for rows in alone.values() for row in rows), default=0.0)
    return Neighbours(count, moved["padded"], moved["batched"], largest, int(flipped.sum()))


def _run(session: Session, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value[0] for name, value in _answers(session, feeds).items()}


def _answers(session: Session, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return token_logprobs.reduced(feeds, session.infer(feeds))


def _first(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Row 0 of a batch, with the padding it got there."""
    return {name: np.ascontiguousarray(value[:1]) for name, value in feeds.items()}


def _columns(rows: list[dict[str, np.ndarray]], lengths: np.ndarray, per_token: set[str]) -> Outputs:
    """Per output one array per example; a value per token is cut back to the example's own length."""
    return {
        name: [row[name][:n] if name in per_token else row[name] for row, n in zip(rows, lengths)]
        for name in (rows[0] if rows else ())
    }


def best(outputs: Outputs) -> np.ndarray:
    """The place of the largest value of every output: for windows, which alone are no predictions."""
    places = np.empty(len(next(iter(outputs.values()), [])), dtype=object)
    for i in range(len(places)):
        places[i] = tuple(tuple(np.ravel(rows[i].argmax(axis=-1)).tolist()) for rows in outputs.values())
    return places


def _largest_difference(a: Outputs, b: Outputs) -> float:
    """NaN where one of the differences is: Python's `max` would lose it."""
    differences = [
        np.abs(x - y).max() for name in a for x, y in zip(a[name], b[name]) if x.size and x.dtype.kind == "f"
    ]
    return float(np.max(differences, initial=0.0))
