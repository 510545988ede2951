"""The process that holds one model alone and times it. Spoken to through `optkit.process.Child`."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.bench.accuracy import save_outputs
from optkit.errors import OptkitError
from optkit.examples import EncodedSet
from optkit.session import Session, infer_all, open_session

#: Examples in one pass over the data's own lengths: enough for the shape of the histogram.
DATA_EXAMPLES = 48


class Worker:
    """Loads one model, answers, and times its answers with `clock` (seconds)."""

    emit: Callable[..., None]

    def __init__(
        self,
        open_session: Callable[..., Session] = open_session,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._open, self._clock = open_session, clock
        self._session: Session | None = None
        self._encoded: EncodedSet | None = None
        self._feeds: dict[tuple[int, int | str], list[dict[str, np.ndarray]]] = {}

    def load(self, artifact: str, runtime: str | None, options: dict[str, Any]) -> dict[str, Any]:
        """Open the model. `load_ms` counts from here to a session that can answer, imports included."""
        begun = self._clock()
        self._session = self._open(Artifact.open(artifact), runtime, **options)
        return {
            "load_ms": (self._clock() - begun) * 1000,
            "rss_bytes": self.peak_rss(),
            "inputs": [spec.name for spec in self._session.inputs],
        }

    def attach(self, encoded: str) -> None:
        """Take the examples to run from an `EncodedSet` on disk."""
        self._encoded = EncodedSet.load(Path(encoded))

    def evaluate(self, out: str, batch_size: int, max_tokens: int) -> dict[str, Any]:
        """Answer every example; raw outputs go to `out`, in the order of the examples."""
        session, encoded = self._ready()
        begun = self._clock()
        save_outputs(Path(out), infer_all(session, encoded, batch_size, max_tokens))
        return {"seconds": self._clock() - begun, "peak_rss_bytes": self.peak_rss()}

    def cold(self) -> float:
        """The first answer after loading, in ms: one example of median length."""
        session, encoded = self._ready()
        middle = np.argsort(encoded.lengths, kind="stable")[len(encoded) // 2 : len(encoded) // 2 + 1]
        begun = self._clock()
        session.infer(encoded.batch(middle))
        return (self._clock() - begun) * 1000

    def time(self, batch: int, tokens: int | str, repeats: int) -> list[float]:
        """Milliseconds per batch, `repeats` times over all batches of the shape.

        `tokens` is a number, or "data": then the batches are a fixed, even draw over the lengths.
        """
        session, _ = self._ready()
        samples = []
        for _ in range(repeats):
            for feeds in self._batches(batch, tokens):
                begun = self._clock()
                session.infer(feeds)
                samples.append((self._clock() - begun) * 1000)
        return samples

    def peak_rss(self) -> int:
        """The most memory this process has held, in bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def cpu_seconds(self) -> float:
        return time.process_time()

    def _batches(self, batch: int, tokens: int | str) -> list[dict[str, np.ndarray]]:
        if (batch, tokens) not in self._feeds:
            _, encoded = self._ready()
            if tokens == "data":
                found = [encoded.batch(part) for part in data_batches(encoded.lengths, batch)]
            else:
                found = [encoded.of_shape(batch, int(tokens))]
            self._feeds[batch, tokens] = found
        return self._feeds[batch, tokens]

    def _ready(self) -> tuple[Session, EncodedSet]:
        if self._session is None or self._encoded is None:
            raise OptkitError("Expected load and attach before this call.")
        return self._session, self._encoded


def data_batches(lengths: np.ndarray, batch: int) -> list[np.ndarray]:
    """Indices of batches that stand for the data: examples at even quantiles of length.

    Single examples come in shuffled order, as they would arrive; larger batches hold neighbours.
    """
    count = min(len(lengths), DATA_EXAMPLES * (1 if batch == 1 else 4))
    order = np.argsort(lengths, kind="stable")
    even = order[np.linspace(0, len(order) - 1, count).astype(int)]
    parts = [even[i : i + batch] for i in range(0, count, batch)]
    shuffled = np.random.default_rng(0).permutation(len(parts))
    return [parts[i] for i in shuffled]


def serve() -> Worker:
    return Worker()
