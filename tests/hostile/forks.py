"""Runs commands of optkit as forks (`tests/forks.py`), each with standard streams and a clock of its own."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.forks import Fork

#: Seconds after which a command hangs, on a machine that does nothing else.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `code` is None where it hung and was killed, negative after a signal."""

    code: int | None
    out: str
    err: str
    seconds: float


def run(words: list[str], folder: Path, given: bytes = b"", until: str = "") -> Outcome:
    """`optkit WORDS` in `folder`, with `given` on standard input; ended where it says `until`."""
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "OPTKIT_API_KEY": ""}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(given)
        stdin.seek(0)
        begun = time.monotonic()
        process = Fork(
            [sys.executable, "-m", "optkit", *words],
            cwd=folder,
            env={**os.environ, **own},
            stdin=stdin,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        code = _ended(process, begun, err.fileno(), until.encode())
        seconds = time.monotonic() - begun
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read(2**20).decode(errors="backslashreplace"))
    return Outcome(code, *said, round(seconds, 3))


def _ended(process: Fork, begun: float, said: int, until: bytes) -> int | None:
    """The exit code of `process`; it and all that it started are killed where it hangs."""
    pause = 0.001
    while time.monotonic() - begun < PATIENCE_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
        if process.poll() is not None:
            return process.returncode
        time.sleep(pause := min(0.02, 1.3 * pause))
        if until and until in os.pread(said, 2**20, 0):
            process.send_signal(signal.SIGTERM)
            until = b""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    return None
