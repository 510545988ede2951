"""Interleaved latency of several models, each alone in a process of its own.

While one process is timed the others are stopped (SIGSTOP), so that no idle thread pool spins
beside it. Fresh processes are drawn several times, because the same model differs more between
two processes than within one. In a round every shape is visited in random order, and at a shape
all candidates run one after the other, in random order: their ratio is paired in time. A draw
during which the machine was busy is thrown away and drawn again, a limited number of times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking.noise import Figures, NoiseLedger, worst
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.statistics import ratio_interval
from optkit.core.process import Child
from optkit.errors import OptkitError, RecipeError, WorkerError
from optkit.events import Events, Note, Progress, silent
from optkit.report.interval import Interval

#: Makes a worker process with this many threads: a `Child`, or a fake of one in tests.
Spawn = Callable[[int | None], Any]
#: Rounds that visit the whole data set: one visit is many batches already.
ROUNDS_OF_ALL = 2
#: What a reader is told first where the machine was busy to the end.
UNSTABLE = "UNSTABLE: the machine was busy while this was measured; do not trust these times and speedups."


@dataclass
class Measured:
    """What was measured of one candidate; all times in milliseconds.

    `samples[shape][draw][round]` is a list of times per batch; at a shape of tokens "all" it is the
    time of the whole data set, which took `offline_batch` examples at a time. `load_ms` and
    `cold_ms` (the first answer) are the least of all draws, `load_rss_bytes` (resident after
    loading) and `peak_rss_bytes` the greatest. `gpu` as `Worker.gpu` gives it. `failure`: why it stopped.
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

    @property
    def error(self) -> str | None:
        """Why it stopped, for a report."""
        return self.failure.whole if self.failure else None


@dataclass
class Measurement:
    """`models`: name → what was measured. `doubts` say what disturbed it, [] for a quiet machine.

    `redrawn` counts the draws that were thrown away because the machine was busy; `noise` holds the
    ledger's worst figures over those that were kept.
    """

    models: dict[str, Measured]
    doubts: list[str] = field(default_factory=list)
    redrawn: int = 0
    noise: Figures = field(default_factory=dict)

    def __getitem__(self, name: str) -> Measured:
        return self.models[name]


def measure(
    candidates: Sequence[Candidate],
    encoded: Path,
    plan: Plan,
    events: Events = silent,
    spawn: Spawn | None = None,
    clock: Callable[[], float] | None = None,
    ledger: Callable[[], Any] | None = None,
) -> Measurement:
    """Time all `candidates` side by side.

    A candidate whose process crashes or hangs gets an `error`, and the others finish. `events` hears
    of progress; its `seconds` are read from `clock`. `spawn` makes a worker process,
    `ledger` what watches the machine during a draw.

    Raises RecipeError where two candidates have the same name.
    """
    names = [c.name for c in candidates]
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"Expected candidates, each with a name of its own, received {names}.")
    make = spawn or (lambda n: Child("optkit.benchmarking.worker", threads=n, timeout_s=plan.timeout_s))
    run = _Run(candidates, encoded, plan, make, events, clock or time.monotonic)
    result = Measurement(run.records)
    left = plan.processes if plan.redraws is None else plan.redraws
    for draw in range(plan.processes):
        while True:
            watch = (ledger or NoiseLedger)()
            run.draw(draw)
            doubts = watch.doubts()
            if not doubts or result.redrawn == left or not run.stands():
                break
            run.forget()
            result.redrawn += 1
            run.events(Note(f"{' '.join(doubts)} Drawing these processes again."))
        result.noise = worst([result.noise, watch.figures()])
        result.doubts += [doubt for doubt in doubts if doubt not in result.doubts]
    if result.doubts:
        result.doubts.insert(0, UNSTABLE)
    run.tell(1.0, "timed side by side")
    return result


def speedup(a: Measured, b: Measured, shape: Shape) -> Interval:
    """How many times faster `b` is than the baseline `a`, with a 95% interval.

    Raises WorkerError where one of them has no samples at `shape`.
    """
    for measured in (a, b):
        if not any(any(draw) for draw in measured.samples.get(shape, [])):
            reason = f": {measured.error}" if measured.error else "."
            raise WorkerError(f"Expected samples of {measured.name!r} at {shape}, received none{reason}")
    return ratio_interval(a.samples[shape], b.samples[shape], centre="median" if shape.fixed else "total")


class _Run:
    """The state of one `measure`: what was found, and how often each visit repeats."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        encoded: Path,
        plan: Plan,
        spawn: Spawn,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self.records = {c.name: Measured(c.name, {shape: [] for shape in plan.shapes}) for c in candidates}
        self.events = events
        self._candidates, self._encoded, self._plan = candidates, encoded, plan
        self._spawn, self._clock = spawn, clock
        self._random = np.random.default_rng(plan.seed)
        self._begun = clock()
        self._children: dict[str, Any] = {}
        self._repeats: dict[tuple[str, Shape], int] = {}

    def stands(self) -> bool:
        """Whether any candidate has not failed."""
        return any(record.error is None for record in self.records.values())

    def draw(self, draw: int) -> None:
        """One fresh process per candidate that still stands, and all rounds in them."""
        plan = self._plan
        with ExitStack() as stack:
            self._children = {}
            for candidate in self._candidates:
                if self.records[candidate.name].error is None:
                    self._start(candidate, stack)
            for name in list(self._children):
                self._attempt(name, self._warm_up, name)
            number = 0
            while self._children and (number < plan.rounds or self._short_of_time()):
                of_all = f"round {number + 1} of {plan.rounds}, process {draw + 1} of {plan.processes}"
                done = (draw + min(number / plan.rounds, 1.0)) / plan.processes
                self.tell(done, f"timing side by side: {of_all}")
                self._round(number)
                number += 1
            for name in list(self._children):
                self._attempt(name, self._note_memory, name)

    def forget(self) -> None:
        """Throw the samples of the last draw away, but for those of a candidate that failed in it."""
        for record in self.records.values():
            if record.error is None:
                for draws in record.samples.values():
                    draws.pop()

    def _round(self, number: int) -> None:
        rare = number >= ROUNDS_OF_ALL and not self._plan.min_seconds
        shapes = [s for s in self._plan.shapes if not (rare and s.tokens == "all")]
        for s in self._random.permutation(len(shapes)):
            for i in self._random.permutation(len(self._candidates)):
                name = self._candidates[i].name
                if name in self._children:
                    self._attempt(name, self._visit, name, shapes[s])

    def _short_of_time(self) -> bool:
        """Whether some candidate has been timed for less than its share of `min_seconds`."""
        wanted_ms = self._plan.min_seconds * 1000 / self._plan.processes
        return wanted_ms > 0 and any(
            sum(map(sum, self.records[name].samples[shape][-1])) < wanted_ms
            for name in self._children
            for shape in self._plan.shapes
        )

    def _start(self, candidate: Candidate, stack: ExitStack) -> None:
        """Load the model in a process of its own; a failure is the candidate's error."""
        record = self.records[candidate.name]
        for draws in record.samples.values():
            draws.append([])
        options = dict(candidate.options)
        if self._plan.threads:
            options.setdefault("threads", self._plan.threads)
        try:
            child = stack.enter_context(self._spawn(self._plan.threads))
        except OptkitError as reason:
            record.failure = reason
            return
        self._children[candidate.name] = child

        def load() -> None:
            if self._plan.cores:
                child.call("pin", cores=list(self._plan.cores))
            where = {"artifact": candidate.artifact, "runtime": candidate.runtime, "options": options}
            loaded = child.call("load", **where, slowdown=candidate.slowdown)
            child.call("attach", encoded=candidate.encoded or str(self._encoded), texts=candidate.texts)
            cold_ms = child.call("cold")
            record.load_ms = min(loaded["load_ms"], record.load_ms or np.inf)
            record.cold_ms = min(cold_ms, record.cold_ms or np.inf)
            record.load_rss_bytes = max(loaded["rss_bytes"], record.load_rss_bytes or 0)

        self._attempt(candidate.name, load)

    def _attempt(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """Let `name` alone run for `action`; a failure ends this candidate only."""
        child = self._children[name]
        child.resume()
        try:
            action(*arguments)
        except OptkitError as reason:
            self.records[name].failure = reason
            del self._children[name]
            child.close()
        else:
            child.pause()

    def _warm_up(self, name: str) -> None:
        """Warm each shape up; in the first process, fit the repetitions to the budget."""
        call, plan, record = self._children[name].call, self._plan, self.records[name]
        for shape in plan.shapes:
            where = {"batch": shape.batch, "tokens": shape.tokens}
            if shape.tokens == "all":
                # Trying the batch sizes is warm-up enough, and one pass over everything is a visit.
                record.offline_batch = call("use_batch", batch=record.offline_batch)
                self._repeats[name, shape] = 1
                continue
            # One pass over the data is a warm-up of many batches already.
            call("warm", **where, repeats=plan.warmup if shape.fixed else min(plan.warmup, 1))
            if (name, shape) not in self._repeats:
                tried = 3 if shape.fixed else 1
                samples = np.reshape(call("time", **where, repeats=tried), (tried, -1))
                once_ms = max(float(np.median(samples.sum(axis=1))), 1e-3)
                fitting = round(plan.budget_ms_per_round / once_ms)
                self._repeats[name, shape] = int(np.clip(fitting, 1, plan.batch_limit))

    def _visit(self, name: str, shape: Shape) -> None:
        call, repeats = self._children[name].call, self._repeats[name, shape]
        where = {"batch": shape.batch, "tokens": shape.tokens}
        if repeats > 1 and shape.fixed:
            # Another model ran in between: the first batch refills the caches and wakes the threads.
            call("warm", **where, repeats=1)
        self.records[name].samples[shape][-1].append(call("time", **where, repeats=repeats))

    def _note_memory(self, name: str) -> None:
        record, call = self.records[name], self._children[name].call
        record.gpu = call("gpu")
        record.peak_rss_bytes = max(record.peak_rss_bytes or 0, call("peak_rss"))

    def tell(self, fraction: float, text: str) -> None:
        seconds = self._clock() - self._begun
        self.events(Progress(text, fraction, seconds))
