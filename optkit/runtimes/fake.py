"""A runtime without a model: deterministic answers and a clock turned by hand.

Public, so that others can test with it what they build on optkit.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.errors import OptkitError
from optkit.session import Feeds, Session, TensorSpec


class ManualClock:
    """A clock in seconds that moves only by `advance`.

    >>> clock = ManualClock(); clock.advance(0.5); clock()
    0.5
    """

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class FakeSession(Session):
    """Logits are a fixed function of each text's own tokens; padding does not change them.

    `ms` and `ms_per_token` are what one call takes on `clock` (None: it takes no time). `flaw`
    is "" or what goes wrong in `infer`: nan, error, crash (the process dies), hang.
    """

    def __init__(
        self,
        labels: int = 2,
        ms: float = 1.0,
        ms_per_token: float = 0.0,
        clock: ManualClock | None = None,
        flaw: str = "",
        threads: int | None = None,
    ) -> None:
        self.inputs = (
            TensorSpec("input_ids", "int64", ("batch", "sequence")),
            TensorSpec("attention_mask", "int64", ("batch", "sequence")),
        )
        self.outputs = (TensorSpec("logits", "float32", ("batch", labels)),)
        self._labels, self._ms, self._per_token = labels, ms, ms_per_token
        self._clock, self._flaw = clock, flaw

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        feeds = self.select(feeds)
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        if self._flaw == "error":
            raise OptkitError("The fake runtime was asked to fail.")
        if self._flaw == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        while self._flaw == "hang":
            time.sleep(1)
        if self._clock is not None:
            self._clock.advance((self._ms + self._per_token * ids.size) / 1000)
        columns = np.arange(1, self._labels + 1)
        sums = (ids * mask).sum(axis=1, keepdims=True)
        logits = np.sin(sums * 0.37 * columns + columns).astype(np.float32)
        return {"logits": np.full_like(logits, np.nan) if self._flaw == "nan" else logits}


def open_session(artifact: Artifact, **options: Any) -> FakeSession:
    """Any artifact will do: nothing in it is read."""
    return FakeSession(**options)
