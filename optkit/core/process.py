"""`Child`: a Python process of its own for one job, spoken to in JSON lines.

A model that is measured lives alone in a process (two runtimes in one process spoil each other's
times), and a pass runs in one so that its memory goes back when it ends. The child module has a
function `serve()` that returns an object; its public methods are the calls.

    parent → child   {"call": "load", "arguments": {...}}
    child → parent   {"event": "Progress", ...}*  then  {"result": ...} or {"error": ...}
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any

from optkit.errors import MissingDependency, OptkitError, WorkerError, by_name
from optkit.events import Events, from_json, silent, to_json

_BOOT = "import sys; from optkit.core.process import run; run(sys.argv[1])"
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


class Child:
    """A running child process. A context manager.

    `threads` bounds the thread pools of the libraries in it; `timeout_s` bounds its silence during a
    call: an event counts as a sign of life.
    """

    def __init__(self, module: str, threads: int | None = None, timeout_s: float = 3600.0) -> None:
        self.module = module
        self.timeout_s = timeout_s
        environment = dict(os.environ, PYTHONUNBUFFERED="1", TOKENIZERS_PARALLELISM="false")
        environment["HF_HUB_DISABLE_TELEMETRY"] = environment["NNCF_CI"] = "1"  # no telemetry
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        if threads:
            environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115, closed in close()
        self._received = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent, which ends its children in order
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, name: str, events: Events = silent, **arguments: object) -> Any:
        """Call method `name` in the child and return its result (plain JSON values).

        An OptkitError raised there is raised here as the same class. Raises WorkerError when the
        child crashes, says nothing for longer than `timeout_s`, or dies.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        message = json.dumps({"call": name, "arguments": arguments}) + "\n"
        try:
            self._process.stdin.write(message.encode())
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise self._died(name) from None
        deadline = time.monotonic() + self.timeout_s
        while True:
            line = self._read_line(name, deadline)
            reply = json.loads(line)
            if "event" in reply:
                deadline = time.monotonic() + self.timeout_s
                events(from_json(reply))
                continue
            if "error" in reply:
                raise _rebuilt(reply["error"])
            return reply["result"]

    def pause(self) -> None:
        """Stop the whole process (SIGSTOP), so that idle thread pools cannot spin. Linux, macOS."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the child and everything it started."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_line(self, name: str, deadline: float) -> bytes:
        """The next line. Read unbuffered: a buffered reader could hold lines that `select` cannot see."""
        stdout = self._process.stdout
        assert stdout is not None
        while b"\n" not in self._received:
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                if not selector.select(timeout=max(0.0, deadline - time.monotonic())):
                    self.close()
                    raise WorkerError(
                        f"The process for {self.module!r} did not answer {name!r} "
                        f"within {self.timeout_s:g} s and was ended."
                    )
            part = os.read(stdout.fileno(), 1 << 16)
            if not part:
                raise self._died(name)
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _died(self, name: str) -> WorkerError:
        code = self._process.wait()
        self._stderr.seek(0)
        tail = self._stderr.read()[-2000:].decode(errors="replace").strip()
        hint = None
        if code == -signal.SIGKILL:
            hint = "It was killed, most often because the machine ran out of memory."
        return WorkerError(
            f"The process for {self.module!r} ended with code {code} during {name!r}."
            + (f"\n{tail}" if tail else ""),
            hint=hint,
        )


def run(module: str) -> None:
    """The child's main loop; reads calls from standard input until it closes."""
    die_with_parent()
    # Libraries print to standard output; give them standard error and keep the channel.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        service = import_module(module).serve()
    except ModuleNotFoundError as error:
        if not MissingDependency.behind(error):
            raise
        sys.stdin.readline()
        send({"error": _described(error)})  # the answer to the first call
        return
    service.emit = lambda event: send(to_json(event))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            send({"result": getattr(service, request["call"])(**request["arguments"])})
        except Exception as error:
            send({"error": _described(error)})


def _described(error: Exception) -> dict[str, str | None]:
    """An exception as the parent raises it again: our own classes as they are, others by their cause."""
    error = MissingDependency.behind(error) or error
    if isinstance(error, OptkitError):
        return {"class": type(error).__name__, "message": str(error), "hint": error.hint}
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        hint = "Check free space and permissions, then run the same command again: it resumes."
        return {"class": "OutputError", "message": f"Could not write: {error.strerror}.", "hint": hint}
    if isinstance(error, MemoryError):
        return {"class": "WorkerError", "message": "Out of memory.", "hint": None}
    where = "".join(traceback.format_exception(error)[-3:])
    return {"class": "WorkerError", "message": f"{type(error).__name__}: {error}\n{where}", "hint": None}


def _rebuilt(error: dict[str, Any]) -> OptkitError:
    return by_name(error["class"])(error["message"], hint=error["hint"])


def runs(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, so that none is left behind."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
