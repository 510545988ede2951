"""Worker processes played in this process, on a clock turned by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optkit.benchmarking.worker import Worker
from optkit.data.examples import EncodedSet
from optkit.errors import WorkerError
from optkit.runtimes.fake import FakeSession, ManualClock


def encoded_set(lengths) -> EncodedSet:
    random = np.random.default_rng(0)
    ids = [random.integers(5, 900, size) for size in lengths]
    return EncodedSet({"input_ids": ids, "attention_mask": [np.ones_like(x) for x in ids]}, {})


def write_artifact(folder: Path) -> Path:
    """A folder that `Artifact.open` takes for a checkpoint; there is no model in it."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text("{}")
    return folder


class FakeChild:
    """A `Child` whose worker runs here. `log` notes every call and who was awake during it.

    `fail_at` maps the number of a worker (in the order of their making) and a call's name to how
    many such calls go well before the process "crashes".
    """

    def __init__(self, pool: Pool, number: int) -> None:
        self._pool, self.number = pool, number
        self.worker = Worker(
            self._open, clock=pool.clock, burn=lambda steps: pool.clock.advance(steps * 1e-6)
        )
        self.awake, self.closed, self._calls = True, False, {}

    def _open(self, artifact, runtime, **options):
        return FakeSession(clock=self._pool.clock, **options)

    def call(self, name, events=None, **arguments):
        awake = [c.number for c in self._pool.children if c.awake and not c.closed]
        self._pool.log.append((self.number, name, arguments, awake))
        limit = self._pool.fail_at.get((self.number, name))
        self._calls[name] = self._calls.get(name, 0) + 1
        if limit is not None and self._calls[name] > limit:
            raise WorkerError(f"worker {self.number} crashed in {name}")
        return getattr(self.worker, name)(**arguments)

    def pause(self):
        self.awake = False

    def resume(self):
        self.awake = True

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Pool:
    """`spawn` for `measure`: makes `FakeChild`ren that share a clock and a log."""

    def __init__(self, fail_at=None) -> None:
        self.clock = ManualClock()
        self.children: list[FakeChild] = []
        self.threads: list[int | None] = []
        self.log: list[tuple] = []
        self.fail_at = fail_at or {}

    def __call__(self, threads):
        self.threads.append(threads)
        self.children.append(FakeChild(self, len(self.children)))
        return self.children[-1]
