"""The process that holds one model alone and times it. Spoken to through `optkit.core.process.Child`."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking import gpu_warmth, injected_slowdown, memory
from optkit.benchmarking.accuracy import save_outputs
from optkit.benchmarking.batches import Item, arrivals, data_batches, parts_of
from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, OptkitError
from optkit.events import Events, Progress, silent
from optkit.runtimes.base import Session, infer_all, open_session
from optkit.runtimes.seq2seq import EXACTLY, Seq2SeqSession
from optkit.tasks.base import Task, open_task
from optkit.tasks.labelled import Input

#: Batch sizes tried for the offline scenario.
OFFLINE_BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: Tokens that a model which writes texts writes for each source at a shape of fixed size: equal work for all.
WRITTEN = 32


class Worker:
    """Loads one model, answers, and times its answers with `clock` (seconds).

    Calls come in the order load, attach, then any of the others; OptkitError otherwise. Arguments
    and results are plain JSON values.
    """

    emit: Events = staticmethod(silent)

    def __init__(
        self,
        open_session: Callable[..., Session] = open_session,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        burn: Callable[[int], None] = injected_slowdown.burn,
        read_state: Callable[[], dict[str, Any]] = gpu_warmth.state_of_process,
    ) -> None:
        self._open, self._clock, self._sleep, self._burn = open_session, clock, sleep, burn
        self._read_state, self._settled = read_state, False
        self._device_ms: dict[str, list[float]] = {}
        self._session: Session | None = None
        self._artifact: Artifact | None = None
        self._task: Task | None = None
        self._task_name: str | None = None
        self._encoded: EncodedSet | None = None
        self._texts: list[Input] = []
        self._slowdown = 0.0
        self._offline_batch = 1
        self._streams = 0  # how often queries were drawn
        self._made: dict[tuple[int, int | str], list[Item]] = {}
        self._extra: dict[tuple[int, int | str], list[int]] = {}

    def pin(self, cores: list[int]) -> None:
        """Run on these cores only; threads that are started later do too (Linux)."""
        try:
            os.sched_setaffinity(0, cores)
        except (AttributeError, OSError, ValueError) as reason:
            raise OptkitError(f"Cannot run on the cores {cores}: {reason}.") from reason

    def load(
        self, artifact: str, runtime: str | None, options: dict[str, Any], slowdown: float = 0.0
    ) -> dict[str, Any]:
        """Open the model. `load_ms` counts from here to a session that can answer, imports included.

        `options` are those of `open_session`, `task` among them.
        `rss_bytes` is resident memory after it. With `slowdown` every timed answer is followed by
        extra work that takes this share of it (`optkit.benchmarking.injected_slowdown`).
        """
        begun = self._clock()
        self._artifact = Artifact.open(artifact)  # a damaged folder is refused before a runtime is imported
        self._session = self._open(self._artifact, runtime, **options)
        self._task_name = options.get("task")
        self._slowdown = slowdown
        return {
            "load_ms": (self._clock() - begun) * 1000,
            "rss_bytes": memory.resident(),
            "inputs": [spec.name for spec in self._session.inputs],
        }

    def attach(self, encoded: str, texts: str | None = None) -> None:
        """Take the examples to run from an `EncodedSet` on disk, and `texts` from a JSON list.

        Raises DataError where there is no example.
        """
        examples = EncodedSet.load(Path(encoded))
        if len(examples) == 0:
            raise DataError(f"Expected at least one example in {encoded!r}, received none.")
        self._encoded = examples
        self._texts = json.loads(Path(texts).read_text(encoding="utf-8")) if texts else []
        self._made.clear()
        self._extra.clear()

    def evaluate(self, out: str, batch_size: int, max_tokens: int) -> dict[str, Any]:
        """Answer every example; raw outputs go to `out`, in the order of the examples.

        Raises PassError where an output is NaN or infinite.
        """
        session, encoded = self._ready()
        begun = self._clock()
        outputs = infer_all(
            session, encoded, batch_size, max_tokens, lambda n: self.emit(Progress(f"{n} answered"))
        )
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
        """The same work as `time`, untimed: caches fill, kernels are chosen, clocks rise.

        On a GPU the first call goes on until its clock has settled.
        """
        items = self._items(batch, tokens)
        for _ in range(repeats):
            for item in items:
                self._answer(item)
        session, _ = self._ready()
        if session.device == "cuda" and not self._settled:
            gpu_warmth.settle(lambda: self._answer(items[0]), self._read_state, self._clock)
            self._settled = True

    def time(self, batch: int, tokens: int | str, repeats: int) -> list[float]:
        """Milliseconds of each batch, `repeats` times over all batches of the shape.

        `tokens` is a number or one of `optkit.benchmarking.plan.KINDS`: then the batches are made by
        `optkit.benchmarking.batches`, in the same order in every worker, and the result holds
        repeats x batches samples; for "all" it holds the time of each pass over the whole data.
        "stream" draws new queries for each call.
        """
        if tokens == "stream":
            self._made.pop((batch, tokens), None)
            self._streams += 1
        items = self._items(batch, tokens)
        extra = self._extra_steps(batch, tokens)
        samples: list[float] = []
        with _no_garbage_collection():
            for _ in range(repeats):
                taken = [self._timed(x, f"{batch}x{tokens}", steps) for x, steps in zip(items, extra)]
                samples += [sum(taken)] if tokens == "all" else taken
        return samples

    def use_batch(self, batch: int | None) -> int:
        """Set the batch size of the shape of tokens "all"; None: find the fastest by trying."""
        _, encoded = self._ready()
        if batch is None:
            rate = {}
            for size in OFFLINE_BATCHES:
                parts = [encoded.batch(part) for part in data_batches(encoded.lengths, size, 128)]
                examples = sum(len(next(iter(part.values()))) for part in parts)
                self._answer(parts[0])
                rate[size] = examples / min(sum(self._timed(part) for part in parts) for _ in range(2))
                if size >= len(encoded):
                    break
            batch = max(rate, key=lambda size: rate[size])
        self._offline_batch = batch
        for cache in (self._made, self._extra):
            cache.pop((1, "all"), None)
        return batch

    def serve(
        self, rate: float, seconds: float, seed: int, max_batch: int, give_up_ms: float
    ) -> dict[str, Any]:
        """Answer queries that arrive at random, `rate` a second on average, for `seconds`.

        Arrivals are a Poisson process and do not wait for answers, as in MLPerf's server scenario.
        Whoever waits is answered together, at most `max_batch` at once. `latencies_ms` count from the
        scheduled arrival; `gave_up` says that a query had waited for `give_up_ms`, and the rest were
        left out: at this rate the queue only grows.
        """
        _, encoded = self._ready()
        times, examples = arrivals(rate, seconds, len(encoded), seed)
        latencies: list[float] = []
        begun, first, last_sign = self._clock(), 0, 0.0
        with _no_garbage_collection():
            while first < len(times):
                now = self._clock() - begun
                if now < times[first]:
                    if now > last_sign + 1:  # a sign of life, while nobody waits
                        self.emit(Progress(f"{first} of {len(times)} queries"))
                        last_sign = now
                    self._sleep(times[first] - now)
                    continue
                if (now - times[first]) * 1000 > give_up_ms:
                    return {"latencies_ms": latencies, "gave_up": True}
                waiting = max(int(np.searchsorted(times, now, side="right")), first + 1)
                last = min(waiting, first + max_batch)
                self._timed(encoded.batch(examples[first:last]))
                done = self._clock() - begun
                latencies += [(done - t) * 1000 for t in times[first:last]]
                first = last
        return {"latencies_ms": latencies, "gave_up": False}

    def gpu(self) -> dict[str, Any]:
        """Device times by shape (medians, ms), memory, clocks and power of the GPU; {} on a CPU."""
        session, _ = self._ready()
        if session.device != "cuda":
            return {}
        medians = {shape: float(np.median(taken)) for shape, taken in self._device_ms.items()}
        return {"device_ms": medians, **self._read_state()}

    def peak_rss(self) -> int:
        """The most memory this process has held, in bytes."""
        return memory.peak()

    def cpu_seconds(self) -> float:
        """CPU time of this process so far, all threads."""
        return time.process_time()

    def _items(self, batch: int, tokens: int | str) -> list[Item]:
        """What is answered at a shape, made once: no sample pays for padding."""
        key = (batch, tokens)
        if key not in self._made:
            _, encoded = self._ready()
            if tokens == "text":
                if not self._texts:
                    raise DataError("Expected texts for end-to-end times, received none.")
                texts = self._texts
                parts = data_batches(encoded.lengths[: len(texts)], batch)
                self._made[key] = [[texts[i] for i in part] for part in parts]
                assert self._artifact is not None
                self._task = open_task(self._artifact, self._task_name)
            elif isinstance(tokens, int):
                writes = isinstance(self._session, Seq2SeqSession)
                exactly = {EXACTLY: np.array([WRITTEN])} if writes else {}
                self._made[key] = [encoded.of_shape(batch, tokens) | exactly]
            else:
                parts = parts_of(tokens, encoded.lengths, batch, self._offline_batch, self._streams)
                self._made[key] = [encoded.batch(part) for part in parts]
        return self._made[key]

    def _answer(self, item: Item) -> None:
        session, _ = self._ready()
        if isinstance(item, dict):
            session.infer(item)
        else:
            assert self._task is not None
            encoded = self._task.encode(item)
            self._task.decode(infer_all(session, encoded, len(item), max_tokens=4096))

    def _extra_steps(self, batch: int, tokens: int | str) -> list[int]:
        """Per item of a shape, the extra work that makes the slowdown asked for."""
        key, items = (batch, tokens), self._items(batch, tokens)
        if not self._slowdown:
            return [0] * len(items)
        if len(self._extra.get(key, ())) != len(items):
            answers = [partial(self._timed, item) for item in items]
            self._extra[key] = injected_slowdown.steps_for(self._slowdown, answers, self._burn, self._clock)
        return self._extra[key]

    def _timed(self, item: Item, shape: str = "", extra: int = 0) -> float:
        """Milliseconds until `item` was answered, copies to the device and back included, and `extra`
        steps of work were done."""
        session, _ = self._ready()
        session.synchronize()  # what an earlier answer left on the device is no part of this one
        begin, begun = session.mark(), self._clock()
        self._answer(item)
        end = session.mark()
        session.synchronize()
        if begin is not None:
            self._device_ms.setdefault(shape, []).append(session.elapsed_ms(begin, end))
        if extra:
            self._burn(extra)
        return (self._clock() - begun) * 1000

    def _ready(self) -> tuple[Session, EncodedSet]:
        if self._session is None or self._encoded is None:
            missing = "load" if self._session is None else "attach"
            raise OptkitError(f"Expected {missing!r} to be called before this, received this call first.")
        return self._session, self._encoded


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
