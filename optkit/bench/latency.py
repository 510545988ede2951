"""Interleaved latency of several models, each alone in a process of its own.

While one process is timed the others are stopped (SIGSTOP), so that no idle thread pool spins
beside it. Fresh processes are drawn several times, because the same model differs more between
two processes than within one. In a round every shape is visited in random order, and at a shape
all candidates run one after the other, in random order: their ratio is paired in time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optkit.bench.stats import Ratio, ratio_interval
from optkit.errors import OptkitError, RecipeError, WorkerError
from optkit.process import Child

Listener = Callable[[dict[str, Any]], None]
#: Makes a worker process with this many threads: a `Child`, or a fake of one in tests.
Spawn = Callable[[int | None], Any]


@dataclass(frozen=True)
class Shape:
    """`batch` × `tokens`; tokens "data" means the data's own lengths.

    >>> Shape.parse("8x128"), str(Shape(1, "data"))
    (Shape(batch=8, tokens=128), '1xdata')
    """

    batch: int
    tokens: int | str

    def __post_init__(self) -> None:
        tokens = 1 if self.tokens == "data" else self.tokens
        if self.batch < 1 or not isinstance(tokens, int) or tokens < 1:
            raise RecipeError(
                f"Expected a shape such as 8x128 or 1xdata, received {self.batch}x{self.tokens}.",
                hint="Both numbers are at least 1.",
            )

    @classmethod
    def parse(cls, text: str) -> Shape:
        found = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(\d+|data)\s*", text, re.ASCII)
        if not found:
            raise RecipeError(
                f"Expected a shape such as 8x128 or 1xdata, received {text!r}.",
                hint="batch x tokens; 'data' stands for the data's own lengths.",
            )
        batch, tokens = found.groups()
        return cls(int(batch), tokens if tokens == "data" else int(tokens))

    def __str__(self) -> str:
        return f"{self.batch}x{self.tokens}"


@dataclass(frozen=True)
class Plan:
    """How to measure.

    `processes` fresh processes per candidate, `rounds` visits to each shape in each of them. A visit
    repeats its batch (or its pass over the data) for about `budget_ms_per_round` milliseconds, at
    least once and at most `batch_limit` times, as often in every round. `warmup` batches run
    untimed before the first round. `threads` bounds the threads of each candidate (None: the
    library's choice). A call that takes longer than `timeout_s` ends its candidate.
    """

    shapes: tuple[Shape, ...]
    rounds: int = 6
    processes: int = 2
    budget_ms_per_round: float = 60.0
    warmup: int = 3
    seed: int = 0
    threads: int | None = None
    batch_limit: int = 30
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.shapes:
            raise RecipeError("Expected at least one shape, received none.", hint="Give one such as 1x128.")
        if len(set(self.shapes)) < len(self.shapes):
            raise RecipeError(f"Expected every shape once, received {[str(s) for s in self.shapes]}.")
        least = {"rounds": 1, "processes": 1, "warmup": 0, "batch_limit": 1, "threads": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise RecipeError(f"Expected {name} to be at least {bound}, received {value}.")
        for name in ("budget_ms_per_round", "timeout_s"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"Expected {name} to be above 0, received {getattr(self, name)}.")


@dataclass(frozen=True)
class Candidate:
    """A model to measure: an artifact's folder, and the runtime that loads it with `options`."""

    name: str
    artifact: str
    runtime: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """What was measured of one candidate; all times in milliseconds.

    `samples[shape][draw][round]` is a list of times per batch. `load_ms` and `cold_ms` (the first
    answer) are the least of all draws, `peak_rss_bytes` the greatest. `error`: why it stopped.
    """

    name: str
    samples: dict[Shape, list[list[list[float]]]] = field(default_factory=dict)
    load_ms: float | None = None
    cold_ms: float | None = None
    peak_rss_bytes: int | None = None
    error: str | None = None


def measure(
    candidates: Sequence[Candidate],
    encoded: Path,
    plan: Plan,
    listener: Listener | None = None,
    spawn: Spawn | None = None,
    clock: Callable[[], float] | None = None,
) -> dict[str, Measured]:
    """Time all `candidates` side by side; name → what was measured.

    A candidate whose process crashes or hangs gets an `error`, and the others finish. `listener`
    receives progress events; their `seconds` are read from `clock`. `spawn` makes a worker process.

    Raises RecipeError where two candidates have the same name.
    """
    names = [c.name for c in candidates]
    if not names or len(set(names)) < len(names):
        raise RecipeError(f"Expected candidates, each with a name of its own, received {names}.")
    make = spawn or (lambda n: Child("optkit.bench.worker", threads=n, timeout_s=plan.timeout_s))
    run = _Run(candidates, encoded, plan, make, listener or (lambda event: None), clock or time.monotonic)
    for draw in range(plan.processes):
        run.draw(draw)
    run.tell(1.0, "timed side by side")
    return run.found


def speedup(a: Measured, b: Measured, shape: Shape) -> Ratio:
    """How many times faster `b` is than the baseline `a`, with a 95% interval.

    Raises WorkerError where one of them has no samples at `shape`.
    """
    for measured in (a, b):
        if not any(any(draw) for draw in measured.samples.get(shape, [])):
            reason = f": {measured.error}" if measured.error else "."
            raise WorkerError(f"Expected samples of {measured.name!r} at {shape}, received none{reason}")
    centre = "total" if shape.tokens == "data" else "median"
    return ratio_interval(a.samples[shape], b.samples[shape], centre=centre)


class _Run:
    """The state of one `measure`: what was found, and how often each visit repeats."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        encoded: Path,
        plan: Plan,
        spawn: Spawn,
        listener: Listener,
        clock: Callable[[], float],
    ) -> None:
        self.found = {c.name: Measured(c.name, {shape: [] for shape in plan.shapes}) for c in candidates}
        self._candidates, self._encoded, self._plan = candidates, encoded, plan
        self._spawn, self._listener, self._clock = spawn, listener, clock
        self._random = np.random.default_rng(plan.seed)
        self._begun = clock()
        self._children: dict[str, Any] = {}
        self._repeats: dict[tuple[str, Shape], int] = {}

    def draw(self, draw: int) -> None:
        """One fresh process per candidate that still stands, and all rounds in them."""
        plan = self._plan
        with ExitStack() as stack:
            self._children = {}
            for candidate in self._candidates:
                if self.found[candidate.name].error is None:
                    self._start(candidate, stack)
            for name in list(self._children):
                self._attempt(name, self._warm_up, name)
            for number in range(plan.rounds):
                of_all = f"round {number + 1} of {plan.rounds}, process {draw + 1} of {plan.processes}"
                done = (draw + number / plan.rounds) / plan.processes
                self.tell(done, f"timing side by side: {of_all}")
                for s in self._random.permutation(len(plan.shapes)):
                    for i in self._random.permutation(len(self._candidates)):
                        name = self._candidates[i].name
                        if name in self._children:
                            self._attempt(name, self._visit, name, plan.shapes[s])
            for name in list(self._children):
                self._attempt(name, self._note_memory, name)

    def _start(self, candidate: Candidate, stack: ExitStack) -> None:
        """Load the model in a process of its own; a failure is the candidate's error."""
        record = self.found[candidate.name]
        for draws in record.samples.values():
            draws.append([])
        options = dict(candidate.options)
        if self._plan.threads:
            options.setdefault("threads", self._plan.threads)
        try:
            child = stack.enter_context(self._spawn(self._plan.threads))
        except OptkitError as reason:
            record.error = str(reason)
            return
        self._children[candidate.name] = child

        def load() -> None:
            where = {"artifact": candidate.artifact, "runtime": candidate.runtime, "options": options}
            load_ms = child.call("load", **where)["load_ms"]
            child.call("attach", encoded=str(self._encoded))
            cold_ms = child.call("cold")
            record.load_ms = load_ms if record.load_ms is None else min(load_ms, record.load_ms)
            record.cold_ms = cold_ms if record.cold_ms is None else min(cold_ms, record.cold_ms)

        self._attempt(candidate.name, load)

    def _attempt(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """Let `name` alone run for `action`; a failure ends this candidate only."""
        child = self._children[name]
        child.resume()
        try:
            action(*arguments)
        except OptkitError as reason:
            self.found[name].error = str(reason)
            del self._children[name]
            child.close()
        else:
            child.pause()

    def _warm_up(self, name: str) -> None:
        """Warm each shape up; in the first process, fit the repetitions to the budget."""
        call, plan = self._children[name].call, self._plan
        for shape in plan.shapes:
            where = {"batch": shape.batch, "tokens": shape.tokens}
            # One pass over the data is a warm-up of many batches already.
            call("warm", **where, repeats=min(plan.warmup, 1) if shape.tokens == "data" else plan.warmup)
            if (name, shape) not in self._repeats:
                tried = 1 if shape.tokens == "data" else 3
                samples = np.reshape(call("time", **where, repeats=tried), (tried, -1))
                once_ms = max(float(np.median(samples.sum(axis=1))), 1e-3)
                fitting = round(plan.budget_ms_per_round / once_ms)
                self._repeats[name, shape] = int(np.clip(fitting, 1, plan.batch_limit))

    def _visit(self, name: str, shape: Shape) -> None:
        call, repeats = self._children[name].call, self._repeats[name, shape]
        where = {"batch": shape.batch, "tokens": shape.tokens}
        if repeats > 1 and shape.tokens != "data":
            # Another model ran in between: the first batch refills the caches and wakes the threads.
            call("warm", **where, repeats=1)
        self.found[name].samples[shape][-1].append(call("time", **where, repeats=repeats))

    def _note_memory(self, name: str) -> None:
        record, peak = self.found[name], self._children[name].call("peak_rss")
        record.peak_rss_bytes = max(record.peak_rss_bytes or 0, peak)

    def tell(self, fraction: float, text: str) -> None:
        seconds = self._clock() - self._begun
        self._listener({"event": "progress", "text": text, "fraction": fraction, "seconds": seconds})
