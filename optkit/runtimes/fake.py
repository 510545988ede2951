"""A runtime without a model: deterministic answers, and a clock turned by hand.

Public, so that others can test with it what they build on optkit: it loads any artifact. It has no name among
the runtimes: a test that wants to name it gives it one, by an entry point `optkit.runtimes`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError, did_you_mean
from optkit.runtimes.base import Feeds, Session, Setting, TensorSpec

FLAWS = ("", "nan", "error", "crash", "hang", "memory")


class ManualClock:
    """A clock in seconds that moves only by `advance`.

    >>> clock = ManualClock()
    >>> clock.advance(0.5)
    >>> clock()
    0.5
    """

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class FakeSession(Session):
    """Outputs are a fixed function of each example's own tokens; padding does not change them.

    `logits` has the shape (batch, labels), or (batch, tokens, labels) with `per_token`, and values
    of -1 to 1. A call takes `delay_ms` and `delay_ms_per_token` (padding counts, as in a real
    model), on `clock` where one is given, else in real time; with both 0 it takes none.
    `flaw` is what goes wrong in `infer`: nan, error, crash (the process dies), hang, memory.
    `spin` keeps a thread busy between calls, as an idle thread pool may.

    >>> ids = np.array([[7, 8, 9]])
    >>> FakeSession().infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"].shape
    (1, 2)
    """

    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {
        "labels": int,
        "delay_ms": float,
        "delay_ms_per_token": float,
        "flaw": str,
        "spin": bool,
        "per_token": bool,
        "threads": int,
    }

    def __init__(
        self,
        labels: int = 2,
        delay_ms: float = 0.0,
        delay_ms_per_token: float = 0.0,
        clock: ManualClock | None = None,
        flaw: str = "",
        spin: bool = False,
        per_token: bool = False,
        threads: int | None = None,
    ) -> None:
        if flaw not in FLAWS:
            raise OptkitError(f"Unknown flaw {flaw!r} of the fake runtime.", hint=did_you_mean(flaw, FLAWS))
        dimensions = ("batch", "sequence")
        self.inputs = tuple(TensorSpec(name, "int64", dimensions) for name in ("input_ids", "attention_mask"))
        shape = (*dimensions, labels) if per_token else ("batch", labels)
        self.outputs = (TensorSpec("logits", "float32", shape),)
        self._labels, self._flaw, self._per_token = labels, flaw, per_token
        self._delay_ms, self._delay_ms_per_token = delay_ms, delay_ms_per_token
        self._advance: Callable[[float], None] = clock.advance if clock else time.sleep
        self._stop = threading.Event()
        if spin:
            threading.Thread(target=self._spin, daemon=True).start()

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        feeds = self.select(feeds)
        self._fail()
        ids, mask = feeds["input_ids"], feeds["attention_mask"] != 0
        delay_ms = self._delay_ms + self._delay_ms_per_token * ids.size
        if delay_ms:
            self._advance(delay_ms / 1000)
        places = np.arange(1, ids.shape[1] + 1)
        scores = np.where(mask, ids * places, 0)  # depends on the order of tokens, not on padding
        if not self._per_token:
            scores = scores.sum(axis=1)
        logits = _hashed(scores[..., None] + np.arange(1, self._labels + 1))
        return {"logits": np.full_like(logits, np.nan) if self._flaw == "nan" else logits}

    def close(self) -> None:
        self._stop.set()

    def _fail(self) -> None:
        if self._flaw == "error":
            raise OptkitError("The fake runtime was asked to fail.")
        if self._flaw == "memory":
            raise MemoryError
        if self._flaw == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        while self._flaw == "hang":
            time.sleep(1)

    def _spin(self) -> None:
        while not self._stop.is_set():
            pass


def open_session(artifact: Artifact, **options: Setting) -> FakeSession:
    """A fake of `artifact`, which may be any: nothing in it is read. `options`: see `FakeSession`."""
    return FakeSession(**options)


def _hashed(values: np.ndarray) -> np.ndarray:
    """Whole numbers to -1..1, spread evenly, the same on every machine (Knuth's multiplicative hash)."""
    mixed = (values.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    return (mixed / 2**31 - 1).astype(np.float32)
