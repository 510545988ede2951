"""Who runs a trial, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.process import runs

if TYPE_CHECKING:
    import optuna


#: Seconds between two signs of life, and how long without one means dead. Clocks of machines that share
#: a study may differ by less than the second.
BEAT_S, GRACE_S = 30.0, 300.0
#: A trial's attributes: who runs it, the last sign of life, how often it was begun.
OWNER, BEAT, ATTEMPTS = "owner", "beat", "attempts"


@dataclass(frozen=True)
class Lease:
    """A process: its machine, its id there, and when it began (ids are given again)."""

    host: str
    pid: int
    began: str

    @classmethod
    def me(cls) -> Lease:
        return cls(_host(), os.getpid(), _began(os.getpid()))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


def is_alive(trial: optuna.trial.FrozenTrial, now: float | None = None) -> bool:
    """Whether the process behind a running trial (Optuna's frozen one) still works on it.

    On this machine the process is looked up, so that a killed one is known at once. Of another
    machine only its signs of life are known.
    """
    now = time.time() if now is None else now
    if OWNER not in trial.user_attrs:  # its process is about to sign, or died right then
        assert trial.datetime_start is not None  # it runs
        return now - trial.datetime_start.timestamp() < BEAT_S
    owner = Lease(**trial.user_attrs[OWNER])
    if owner.host == _host():
        return _began(owner.pid) == owner.began
    return now - trial.user_attrs.get(BEAT, 0.0) < GRACE_S


@contextmanager
def heartbeat(trial: optuna.Trial, every_s: float = BEAT_S) -> Iterator[None]:
    """Give a sign of life for `trial` now and then, until the block ends."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            with suppress(Exception):  # a busy database: the next one will do
                trial.set_user_attr(BEAT, time.time())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _host() -> str:
    """The machine and, in a container, its own numbering of processes."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str:
    """When process `pid` began; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    return "?" if runs(pid) else ""  # no /proc, as on macOS: an id given again is taken for the same process
