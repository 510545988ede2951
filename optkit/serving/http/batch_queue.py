"""`BatchQueue`: requests between the network and the model, bounded, oldest first, batched by length.

A batch begins with the input that has waited longest, so that none starves, and is filled with those
nearest to it in length, so that little is padding; of many that wait only the oldest are looked at, as
all of thousands would take longer than the batch. Work is never held back while the model is idle
and alone: only when the last batch held several requests does the next one wait a moment for company.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from optkit.data.examples import characters
from optkit.errors import OptkitError
from optkit.tasks.labelled import Answer, Input

#: About this many characters make a token; batches are cut exactly once they are encoded.
CHARACTERS = 4
#: So many batches' worth of inputs are looked at for the next one.
WINDOW = 8
#: Of a request's time, what may be spent waiting: how long what waits will take is an estimate.
SHARE = 0.75


class QueueFull(OptkitError):
    """No room to wait; `retry_after_s` is about when there is, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("The server is busy.")
        self.retry_after_s = retry_after_s


class Late(OptkitError):
    """The deadline passed before the answer came."""


@dataclass(eq=False)
class Job:
    """One request: `inputs`, answered in place. `deadline` and `arrived` are times of the line's clock.

    A batch has one set of `options`. An `alone` job shares its batch with no other, and is never cut.
    """

    inputs: Sequence[Input]
    deadline: float = float("inf")
    options: dict[str, Any] = field(default_factory=dict)
    alone: bool = False
    arrived: float = 0.0
    begun: float = 0.0
    abandoned: bool = False
    error: Exception | None = None
    answers: list[Answer] = field(default_factory=list)
    future: asyncio.Future[None] = None  # type: ignore[assignment]  # set by whoever waits for it
    left: int = 0

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.inputs)
        self.left = len(self.inputs)


@dataclass(frozen=True, eq=False)
class Item:
    """One input of a job; `tokens` is an estimate."""

    job: Job
    place: int
    tokens: int

    @property
    def input(self) -> Input:
        return self.job.inputs[self.place]


class BatchQueue:
    """Thread-safe. At most `capacity` inputs wait; `take` gives batches to the threads that answer.

    `tell` is called with how many wait, whenever that changes; `streams` batches are answered at once. What
    could not be answered before its deadline is refused at once.
    """

    def __init__(
        self,
        capacity: int,
        max_batch: int,
        max_tokens: int,
        max_delay_s: float,
        longest: int = 512,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[int], None] = lambda waiting: None,
        streams: int = 1,
    ) -> None:
        self.capacity, self.max_batch, self.max_tokens = capacity, max_batch, max_tokens
        self.max_delay_s, self._longest, self._clock = max_delay_s, longest, clock
        self._tell, self._streams = tell, streams
        self._items: list[Item] = []
        self._jobs: list[Job] = []  # those that may have inputs waiting
        self._changed = threading.Condition()
        self._company = False
        self._closed = False
        self._per_input_s = 0.01  # a moving average of what an input takes

    def __len__(self) -> int:
        return len(self._items)

    def full(self, seconds: float = float("inf")) -> bool:
        """Whether an input would find no room, or not be answered within so many seconds."""
        return len(self._items) >= self.capacity or self._takes_s() > SHARE * seconds

    def retry_after_s(self) -> int:
        """About how long what waits takes, for `Retry-After`."""
        return max(1, round(self._takes_s()))

    def _takes_s(self) -> float:
        return len(self._items) * self._per_input_s / self._streams

    def put(self, job: Job) -> None:
        """Raises QueueFull where its inputs do not fit; none of them waits then."""
        job.arrived = self._clock()
        items = [Item(job, i, min(_size(x), self._longest)) for i, x in enumerate(job.inputs)]
        with self._changed:
            if self._closed:
                raise OptkitError("This line is closed.")
            late = self.full(job.deadline - job.arrived)
            if late or len(self._items) + len(items) > self.capacity:
                raise QueueFull(self.retry_after_s())
            self._items += items
            self._jobs.append(job)
            self._tell(len(self._items))
            self._changed.notify()

    def take(self) -> list[Item] | None:
        """The next batch; waits for one. None when the line is closed and empty."""
        with self._changed:
            while True:
                self._forget_the_late()
                if not self._items:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                wait = self._patience()
                if wait <= 0:
                    break
                self._changed.wait(wait)
            batch = self._pick()
            self._tell(len(self._items))
            self._company = len({id(item.job) for item in batch}) > 1
            if self._items:
                self._changed.notify()
            return batch

    def took(self, inputs: int, seconds: float) -> None:
        """What a batch cost."""
        self._per_input_s += 0.1 * (seconds / max(inputs, 1) - self._per_input_s)

    def close(self) -> None:
        """Take no more; what waits is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _patience(self) -> float:
        """How much longer the next batch may wait to fill."""
        if not self._company or self._closed or len(self._items) >= self.max_batch:
            return 0.0
        if sum(item.tokens for item in self._items) >= self.max_tokens:
            return 0.0
        return self._items[0].job.arrived + self.max_delay_s - self._clock()

    def _pick(self) -> list[Item]:
        first = self._items[0]
        if first.job.alone:
            same_job = [item for item in self._items if item.job is first.job]
            self._items = self._items[len(same_job) :]  # a job's inputs stand together
            return same_job
        window = self._items[: WINDOW * self.max_batch]
        others = (x for x in window[1:] if x.job.options == first.job.options and not x.job.alone)
        order = sorted(others, key=lambda item: abs(item.tokens - first.tokens))
        batch, longest = [first], first.tokens
        for item in order[: self.max_batch - 1]:
            longest = max(longest, item.tokens)
            if longest * (len(batch) + 1) > self.max_tokens:
                break
            batch.append(item)
        chosen = {id(item) for item in batch}
        self._items[: len(window)] = [item for item in window if id(item) not in chosen]
        return batch

    def _forget_the_late(self) -> None:
        """Inputs of requests that were answered with a timeout already, or failed, cost no more work."""
        now = self._clock()
        late = {id(x) for x in self._jobs if x.abandoned or x.error or x.deadline <= now}
        if late:
            waiting = len(self._items)
            self._items = [item for item in self._items if id(item.job) not in late]
            self._jobs = [job for job in self._jobs if id(job) not in late]
            if len(self._items) < waiting:
                self._tell(len(self._items))


def _size(item: Input) -> int:
    """About how many tokens an input has."""
    return 3 + characters(item) // CHARACTERS if isinstance(item, (str, list, tuple, dict)) else 1
