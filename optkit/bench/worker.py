"""The process that holds one model alone and times it. Spoken to through `optkit.process.Child`."""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.bench.accuracy import save_outputs
from optkit.errors import DataError, OptkitError
from optkit.examples import EncodedSet
from optkit.session import Session, infer_all, open_session

#: Examples in one pass over the data's own lengths: enough for the shape of the histogram.
DATA_EXAMPLES = 48


class Worker:
    """Loads one model, answers, and times its answers with `clock` (seconds).

    Calls come in the order load, attach, then any of the others; OptkitError otherwise. Arguments
    and results are plain JSON values.
    """

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
        """Open the model. `load_ms` counts from here to a session that can answer, imports included.

        `rss_bytes` is resident memory after it; `cold_ms` is None until examples are attached, see `cold`.
        """
        begun = self._clock()
        opened = Artifact.open(artifact)  # a damaged folder is refused before a runtime is imported
        self._session = self._open(opened, runtime, **options)
        return {
            "load_ms": (self._clock() - begun) * 1000,
            "rss_bytes": _memory("VmRSS") or self.peak_rss(),
            "cold_ms": None,
            "inputs": [spec.name for spec in self._session.inputs],
        }

    def attach(self, encoded: str) -> None:
        """Take the examples to run from an `EncodedSet` on disk. Raises DataError where it has none."""
        found = EncodedSet.load(Path(encoded))
        if len(found) == 0:
            raise DataError(f"Expected at least one example in {encoded!r}, received none.")
        self._encoded = found
        self._feeds.clear()

    def evaluate(self, out: str, batch_size: int, max_tokens: int) -> dict[str, Any]:
        """Answer every example; raw outputs go to `out`, in the order of the examples.

        Raises PassError where an output is NaN or infinite.
        """
        session, encoded = self._ready()
        begun = self._clock()
        outputs = infer_all(session, encoded, batch_size, max_tokens)
        seconds = self._clock() - begun
        save_outputs(Path(out), outputs)
        return {"seconds": seconds, "peak_rss_bytes": self.peak_rss()}

    def cold(self) -> float:
        """The first answer after loading, in ms: one example of median length."""
        session, encoded = self._ready()
        order = np.argsort(encoded.lengths, kind="stable")
        feeds = encoded.batch(order[len(order) // 2 : len(order) // 2 + 1])
        begun = self._clock()
        session.infer(feeds)
        return (self._clock() - begun) * 1000

    def warm(self, batch: int, tokens: int | str, repeats: int) -> None:
        """The same work as `time`, untimed: caches fill, kernels are chosen, clocks rise."""
        session, _ = self._ready()
        for _ in range(repeats):
            for feeds in self._batches(batch, tokens):
                session.infer(feeds)

    def time(self, batch: int, tokens: int | str, repeats: int) -> list[float]:
        """Milliseconds of each batch, `repeats` times over all batches of the shape.

        `tokens` is a number, or "data": then the batches are a fixed, even draw over the lengths,
        always in the same order, and the result holds repeats x batches samples.
        """
        session, _ = self._ready()
        batches = self._batches(batch, tokens)
        samples = []
        with _no_garbage_collection():
            for _ in range(repeats):
                for feeds in batches:
                    begun = self._clock()
                    session.infer(feeds)
                    samples.append((self._clock() - begun) * 1000)
        return samples

    def peak_rss(self) -> int:
        """The most memory this process has held, in bytes."""
        # getrusage on Linux starts from the parent's peak, which a fork inherits; VmHWM does not.
        found = _memory("VmHWM")
        if found is not None:
            return found
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def cpu_seconds(self) -> float:
        """CPU time of this process so far, all threads."""
        return time.process_time()

    def _batches(self, batch: int, tokens: int | str) -> list[dict[str, np.ndarray]]:
        """The inputs of a shape, made once: no sample pays for padding."""
        key = (batch, tokens)
        if key not in self._feeds:
            _, encoded = self._ready()
            if tokens == "data":
                self._feeds[key] = [encoded.batch(part) for part in data_batches(encoded.lengths, batch)]
            else:
                self._feeds[key] = [encoded.of_shape(batch, int(tokens))]
        return self._feeds[key]

    def _ready(self) -> tuple[Session, EncodedSet]:
        if self._session is None or self._encoded is None:
            missing = "load" if self._session is None else "attach"
            raise OptkitError(f"Expected {missing!r} to be called before this, received this call first.")
        return self._session, self._encoded


def data_batches(lengths: np.ndarray, batch: int, count: int = DATA_EXAMPLES) -> list[np.ndarray]:
    """Indices of batches that stand for the data: at most `count` examples at even quantiles of length.

    Single examples come in a fixed shuffled order, as they would arrive; larger batches hold
    neighbours in length. `lengths` has the shape (examples,).

    >>> sorted(len(part) for part in data_batches(np.arange(100), 20, count=50))
    [10, 20, 20]
    """
    count = min(len(lengths), count)
    order = np.argsort(lengths, kind="stable")
    # The middle of each of `count` equal slices: the ends would over-represent the extremes.
    even = order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
    parts = [even[i : i + batch] for i in range(0, count, batch)]
    return [parts[i] for i in np.random.default_rng(0).permutation(len(parts))]


def serve() -> Worker:
    return Worker()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """As `timeit` does: a collection of some other sample's garbage is no part of this one."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _memory(field: str) -> int | None:
    """A field of /proc/self/status in bytes; None where there is no such file."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s*(\d+) kB", status, re.M)
    return int(found.group(1)) * 1024 if found else None
