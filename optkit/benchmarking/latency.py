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
from optkit.benchmarking.timed_process import Measured, Spawn, TimedProcess
from optkit.core.process import Child
from optkit.errors import RecipeError, WorkerError
from optkit.events import Events, Note, Progress, silent
from optkit.report.interval import Interval

#: Rounds that visit the whole data set: one visit is many batches already.
ROUNDS_OF_ALL = 2
#: What a reader is told first where the machine was busy to the end.
UNSTABLE = "UNSTABLE: the machine was busy while this was measured; do not trust these times and speedups."


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
    """The state of one `measure`: what was measured so far, and the order of visits."""

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
        self.events, self._plan, self._clock, self._begun = events, plan, clock, clock()
        self._random = np.random.default_rng(plan.seed)
        self._candidates, self._encoded, self._spawn = candidates, encoded, spawn

    def stands(self) -> bool:
        """Whether any candidate has not failed."""
        return any(record.error is None for record in self.records.values())

    def draw(self, draw: int) -> None:
        """One fresh process per candidate that still stands, and all rounds in them."""
        plan, number = self._plan, 0
        with ExitStack() as stack:
            processes = [
                stack.enter_context(TimedProcess(c, self.records[c.name], self._encoded, plan, self._spawn))
                for c in self._candidates
            ]
            for process in processes:
                process.turn(process.warm_up)
            while any(p.runs for p in processes) and (number < plan.rounds or self._short_of_time(processes)):
                of_all = f"round {number + 1} of {plan.rounds}, process {draw + 1} of {plan.processes}"
                done = (draw + min(number / plan.rounds, 1.0)) / plan.processes
                self.tell(done, f"timing side by side: {of_all}")
                self._round(number, processes)
                number += 1
            for process in processes:
                process.turn(process.note_memory)

    def forget(self) -> None:
        """Throw the samples of the last draw away, but for those of a candidate that failed in it."""
        for record in self.records.values():
            if record.error is None:
                for draws in record.samples.values():
                    draws.pop()

    def tell(self, fraction: float, text: str) -> None:
        self.events(Progress(text, fraction, self._clock() - self._begun))

    def _round(self, number: int, processes: Sequence[TimedProcess]) -> None:
        rare = number >= ROUNDS_OF_ALL and not self._plan.min_seconds
        shapes = [s for s in self._plan.shapes if not (rare and s.tokens == "all")]
        for s in self._random.permutation(len(shapes)):
            for i in self._random.permutation(len(processes)):
                processes[i].turn(processes[i].visit, shapes[s])

    def _short_of_time(self, processes: Sequence[TimedProcess]) -> bool:
        """Whether some candidate has been timed for less than its share of `min_seconds`."""
        wanted_ms = self._plan.min_seconds * 1000 / self._plan.processes
        return wanted_ms > 0 and any(
            sum(map(sum, process.record.samples[shape][-1])) < wanted_ms
            for process in processes
            if process.runs
            for shape in self._plan.shapes
        )
