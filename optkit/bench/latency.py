"""Interleaved latency of several models, each alone in a process of its own.

While one process is timed the others are stopped (SIGSTOP), so that no idle thread pool spins
beside it. Fresh processes are drawn several times, because the same model differs more between
two processes than within one. In a round every shape is visited in random order, and at a shape
all candidates run one after the other, in random order: their ratio is paired in time.
"""

from __future__ import annotations

import re
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
#: Most repetitions in one visit, however fast the model is.
MOST_REPEATS = 30


@dataclass(frozen=True)
class Shape:
    """`batch` × `tokens`; tokens "data" means the data's own lengths.

    >>> Shape.parse("8x128"), str(Shape(1, "data"))
    (Shape(batch=8, tokens=128), '1xdata')
    """

    batch: int
    tokens: int | str

    def __post_init__(self) -> None:
        if self.batch < 1 or not (self.tokens == "data" or isinstance(self.tokens, int) and self.tokens > 0):
            raise RecipeError(
                f"Expected a shape such as 8x128 or 1xdata, received {self.batch}x{self.tokens}."
            )

    @classmethod
    def parse(cls, text: str) -> Shape:
        found = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(\d+|data)\s*", text)
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

    `processes` fresh processes per candidate, `rounds` visits to each shape in each of them; a visit
    repeats the batch for about `visit_ms`. `threads` bounds the threads of each candidate.
    """

    shapes: tuple[Shape, ...]
    rounds: int = 5
    processes: int = 2
    visit_ms: float = 60.0
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "processes"):
            if getattr(self, name) < 1:
                raise RecipeError(f"Expected {name} to be at least 1, received {getattr(self, name)}.")
        if not self.shapes:
            raise RecipeError("Expected at least one shape, received none.")


@dataclass(frozen=True)
class Candidate:
    """A model to measure: an artifact's folder and the runtime that loads it."""

    name: str
    artifact: str
    runtime: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """`samples[shape][draw][round]` is a list of milliseconds per batch. `error`: why it stopped."""

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
    spawn: Callable[[int | None], Any] | None = None,
) -> dict[str, Measured]:
    """Time all `candidates` side by side; name → what was measured.

    A candidate whose process crashes or hangs gets an `error` and the others finish. `spawn`
    makes a worker process (tests put a fake there).
    """
    names = [c.name for c in candidates]
    if len(set(names)) < len(names):
        raise RecipeError(f"Expected candidates with names of their own, received {names}.")
    found = {name: Measured(name, {shape: [] for shape in plan.shapes}) for name in names}
    random = np.random.default_rng(plan.seed)
    make = spawn or (lambda threads: Child("optkit.bench.worker", threads=threads, timeout_s=600))
    for draw in range(plan.processes):
        _draw(candidates, encoded, plan, random, found, make, draw, listener or (lambda event: None))
    return found


def speedup(a: Measured, b: Measured, shape: Shape) -> Ratio:
    """How many times faster `b` is than `a`, with a 95% interval."""
    return ratio_interval(a.samples[shape], b.samples[shape])


def _draw(
    candidates: Sequence[Candidate],
    encoded: Path,
    plan: Plan,
    random: np.random.Generator,
    found: dict[str, Measured],
    make: Callable[[int | None], Any],
    draw: int,
    listener: Listener,
) -> None:
    """One fresh process per candidate, and all rounds in them."""
    with ExitStack() as stack:
        children: dict[str, Any] = {}
        for candidate in candidates:
            record = found[candidate.name]
            if record.error:
                continue
            try:
                child = stack.enter_context(make(plan.threads))
                _load(child, candidate, encoded, plan, record)
                children[candidate.name] = child
                child.pause()
            except OptkitError as reason:
                record.error = str(reason)
        repeats = {s: _repeats(children, s, plan, found) for s in plan.shapes}
        for name in children:
            for shape in plan.shapes:
                found[name].samples[shape].append([])
        for number in range(plan.rounds):
            done = (draw + (number + 1) / plan.rounds) / plan.processes
            listener({"event": "progress", "text": "timing side by side", "fraction": done})
            for s in random.permutation(len(plan.shapes)):
                shape = plan.shapes[s]
                for name in random.permutation(sorted(children)):
                    _visit(children, str(name), shape, repeats[shape], found)
        for name, child in children.items():
            child.resume()
            peak = child.call("peak_rss")
            found[name].peak_rss_bytes = max(found[name].peak_rss_bytes or 0, peak)


def _load(child: Any, candidate: Candidate, encoded: Path, plan: Plan, record: Measured) -> None:
    options = dict(candidate.options)
    if plan.threads:
        options.setdefault("threads", plan.threads)
    loaded = child.call(
        "load", artifact=candidate.artifact, runtime=candidate.runtime, options=options
    )
    child.call("attach", encoded=str(encoded))
    cold = child.call("cold")
    record.load_ms = min(loaded["load_ms"], record.load_ms or float("inf"))
    record.cold_ms = min(cold, record.cold_ms or float("inf"))


def _repeats(
    children: dict[str, Any], shape: Shape, plan: Plan, found: dict[str, Measured]
) -> dict[str, int]:
    """Warm each candidate up at `shape`, and fit its repetitions to `plan.visit_ms`."""
    repeats = {}
    for name in list(children):
        warm = _timed(children, name, shape, 2, found)
        if warm:
            passes = float(np.sum(warm[len(warm) // 2 :]))
            repeats[name] = int(np.clip(round(plan.visit_ms / max(passes, 1e-3)), 1, MOST_REPEATS))
    return repeats


def _visit(
    children: dict[str, Any], name: str, shape: Shape, repeats: dict[str, int], found: dict[str, Measured]
) -> None:
    samples = _timed(children, name, shape, repeats.get(name, 1), found) if name in children else []
    if samples:
        found[name].samples[shape][-1].append(samples)


def _timed(
    children: dict[str, Any], name: str, shape: Shape, repeats: int, found: dict[str, Measured]
) -> list[float]:
    """Let `name` alone run; a failure takes it out of `children` and is recorded."""
    child = children[name]
    child.resume()
    try:
        return child.call("time", batch=shape.batch, tokens=shape.tokens, repeats=repeats)
    except OptkitError as reason:
        found[name].error = str(reason)
        del children[name]
        return []
    finally:
        if name in children:
            child.pause()


__all__ = ["Candidate", "Measured", "Plan", "Shape", "WorkerError", "measure", "speedup"]
