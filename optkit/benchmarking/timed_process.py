"""One candidate alone in a process of its own, which is stopped but for its turns, and what it measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.core.process import Child
from optkit.errors import OptkitError

#: Makes a worker process with this many threads: a `Child`, or a fake of one in tests.
Spawn = Callable[[int | None], Child]


@dataclass
class Measured:
    """What was measured of one candidate; all times in milliseconds.

    `samples[shape][draw][round]` is a list of times per batch; at a shape of tokens "all" it is the
    time of the whole data set, which took `offline_batch` examples at a time. `repeats` says how often a
    visit repeats its batch. `load_ms` and `cold_ms` (the first answer) are the least of all draws,
    `load_rss_bytes` (resident after loading) and `peak_rss_bytes` the greatest. `gpu` as `Worker.gpu` gives
    it. `failure`: why it stopped.
    """

    name: str
    samples: dict[Shape, list[list[list[float]]]] = field(default_factory=dict)
    load_ms: float | None = None
    cold_ms: float | None = None
    load_rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    offline_batch: int | None = None
    gpu: dict[str, Any] = field(default_factory=dict)
    failure: OptkitError | None = None
    repeats: dict[Shape, int] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """Why it stopped, for a report."""
        return self.failure.whole if self.failure else None


class TimedProcess:
    """The process of `candidate` in one draw; its figures go into `record`.

    A context manager: within it the model is loaded, unless it failed in an earlier draw. A failure ends this
    candidate only: `record` says why, and further turns do nothing.
    """

    def __init__(
        self, candidate: Candidate, record: Measured, encoded: Path, plan: Plan, spawn: Spawn
    ) -> None:
        self.record = record
        self._candidate, self._encoded, self._plan, self._spawn = candidate, encoded, plan, spawn
        self._child: Child | None = None

    @property
    def runs(self) -> bool:
        """Whether it has not failed."""
        return self._child is not None

    def __enter__(self) -> Self:
        if self.record.failure is None:
            for draws in self.record.samples.values():
                draws.append([])
            try:
                self._child = self._spawn(self._plan.threads)
            except OptkitError as reason:
                self.record.failure = reason
            self.turn(self._load)
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None

    def turn(self, action: Callable[..., None], *arguments: Shape) -> None:
        """Let this process alone run for `action`, one of the methods below."""
        if self._child is None:
            return
        self._child.resume()
        try:
            action(*arguments)
        except OptkitError as reason:
            self.record.failure = reason
            self.__exit__()
        else:
            self._child.pause()

    def warm_up(self) -> None:
        """Warm each shape up; in the first draw, fit the repetitions to the budget."""
        call, plan, record = self._call, self._plan, self.record
        for shape in plan.shapes:
            where = {"batch": shape.batch, "tokens": shape.tokens}
            if shape.tokens == "all":
                # Trying the batch sizes is warm-up enough, and one pass over everything is a visit.
                record.offline_batch = call("use_batch", batch=record.offline_batch)
                record.repeats[shape] = 1
                continue
            # One pass over the data is a warm-up of many batches already.
            call("warm", **where, repeats=plan.warmup if shape.fixed else min(plan.warmup, 1))
            if shape not in record.repeats:
                tried = 3 if shape.fixed else 1
                samples = np.reshape(call("time", **where, repeats=tried), (tried, -1))
                once_ms = max(float(np.median(samples.sum(axis=1))), 1e-3)
                fitting = round(plan.budget_ms_per_round / once_ms)
                record.repeats[shape] = int(np.clip(fitting, 1, plan.batch_limit))

    def visit(self, shape: Shape) -> None:
        """Time the batches of `shape`."""
        call, repeats = self._call, self.record.repeats[shape]
        where = {"batch": shape.batch, "tokens": shape.tokens}
        if repeats > 1 and shape.fixed:
            # Another model ran in between: the first batch refills the caches and wakes the threads.
            call("warm", **where, repeats=1)
        self.record.samples[shape][-1].append(call("time", **where, repeats=repeats))

    def note_memory(self) -> None:
        record, call = self.record, self._call
        record.gpu = call("gpu")
        record.peak_rss_bytes = max(record.peak_rss_bytes or 0, call("peak_rss"))

    @property
    def _call(self) -> Callable[..., Any]:
        assert self._child is not None
        return self._child.call

    def _load(self) -> None:
        record, candidate, plan = self.record, self._candidate, self._plan
        options = {**({"threads": plan.threads} if plan.threads else {}), **candidate.options}
        call = self._call
        if plan.cores:
            call("pin", cores=list(plan.cores))
        where = {"artifact": candidate.artifact, "runtime": candidate.runtime, "options": options}
        loaded = call("load", **where, slowdown=candidate.slowdown)
        call("attach", encoded=candidate.encoded or str(self._encoded), texts=candidate.texts)
        cold_ms = call("cold")
        record.load_ms = min(loaded["load_ms"], record.load_ms or np.inf)
        record.cold_ms = min(cold_ms, record.cold_ms or np.inf)
        record.load_rss_bytes = max(loaded["rss_bytes"], record.load_rss_bytes or 0)
