"""Several processes: a supervisor that ends on whatever ends one server, and workers that end with it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import deque
from typing import Any

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess

from optkit.serving.http.logs import log

#: What a worker without a parent has to answer what it accepted, in seconds.
ORPHAN_S = 2.5
#: Workers that may die within so many seconds before the supervisor gives up: something is broken for good.
MOST_DEATHS, WITHIN_S = 10, 60.0
HANG_UP = getattr(signal, "SIGHUP", None)


class Supervisor(Multiprocess):
    """uvicorn's. SIGHUP ends it as SIGTERM does, unless the process ignores it (nohup)."""

    def __init__(self, *arguments: Any) -> None:
        ignored = HANG_UP is not None and signal.getsignal(HANG_UP) is signal.SIG_IGN
        super().__init__(*arguments)
        if HANG_UP is not None and ignored:
            signal.signal(HANG_UP, signal.SIG_IGN)
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self.failed = False

    def handle_hup(self) -> None:
        log("info", "received SIGHUP, exiting")
        self.should_exit.set()

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        self.failed = any(process.exitcode == STARTUP_FAILURE for process in self.processes)
        now = time.monotonic()
        self._deaths.extend(now for process in self.processes if process.pid not in before)
        if len(self._deaths) == MOST_DEATHS and now - self._deaths[0] < WITHIN_S:
            log("error", "workers die again and again", deaths=MOST_DEATHS, seconds=WITHIN_S)
            self.failed = True
            self.should_exit.set()


def is_worker() -> bool:
    return multiprocessing.parent_process() is not None


def end_with_parent() -> None:
    """For a worker. Its parent alone says when it ends: a terminal tells every process of its group, and a
    second signal would cut short what the first one began. Without a parent, however it went, the worker
    answers what it accepted, and is gone after ORPHAN_S at the latest."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, HANG_UP):
            if number is not None:
                signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_wait, name="parent", daemon=True).start()


def _wait() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()  # a pipe whose other end the parent alone holds: it ends with it, on every system
    log("warning", "the parent process is gone, exiting", seconds=ORPHAN_S)
    if counted := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # by all workers together; its owner is gone
        shutil.rmtree(counted, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_S)
    os._exit(1)
