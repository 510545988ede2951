"""Runs commands of optkit as forks of one process that has imported everything.

Each has an exit code, standard streams and a clock of its own, and takes milliseconds in place of seconds.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

#: Seconds after which a command hangs, on a machine that does nothing else.
PATIENCE_S = 20.0
#: What commands import, so that forks need not.
_MODULES = (
    *("typer", "pydantic", "numpy", "onnx", "onnxruntime", "torch", "transformers", "tokenizers", "optuna"),
    *("datasets", "pyarrow.parquet", "sklearn.metrics", "onnxscript", "PIL.Image", "scipy.stats", "jinja2"),
    *(
        "optkit.compression.compress",
        "optkit.benchmarking.benchmark",
        "optkit.compression.search.run",
        "optkit.training.tune",
        "optkit.compression.build",
    ),
    *(
        "optkit.preprocessing.run",
        "optkit.serving.package",
        "optkit.serving.offline",
        "optkit.benchmarking.compare",
    ),
    *(
        "optkit.serving.http.run",
        "optkit.passes.worker",
        "optkit.benchmarking.worker",
        "optkit.benchmarking.probe",
    ),
    *(
        "optkit.training.worker",
        "optkit.benchmarking.reference.worker",
        "optkit.models.tokenization_worker",
        "optkit.cli",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `code` is None where it hung and was killed, negative after a signal."""

    code: int | None
    out: str
    err: str
    seconds: float


class Forks:
    """The process that commands are forked from. A context manager."""

    def __init__(self, whole: bool = True) -> None:
        root = str(Path(__file__).resolve().parents[2])
        environment = dict(
            os.environ, PYTHONPATH=root, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", COLUMNS="200"
        )
        environment |= {"PYTHONFAULTHANDLER": "", "TOKENIZERS_PARALLELISM": "false", "OPTKIT_API_KEY": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.hostile.forks import serve; serve({whole})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=root,
        )

    def run(self, words: list[str], folder: Path, given: bytes = b"", until: str = "") -> Outcome:
        """`optkit WORDS` in `folder`, with `given` on standard input; ended where it says `until`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"words": words, "folder": str(folder), "given": given.decode("latin-1"), "until": until}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(whole: bool) -> None:
    """The loop of the process: a request a line, an answer a line."""
    from importlib import import_module

    for module in _MODULES if whole else ("optkit.cli",):
        import_module(module)
    from optkit import cli

    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]  # once, not in every fork
    gc.freeze()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        channel.write(json.dumps(_run(json.loads(line))) + "\n")
        channel.flush()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(request.pop("given").encode("latin-1"))
        given.seek(0)
        begun = time.monotonic()
        number = os.fork()
        if not number:
            _command(request, [given.fileno(), out.fileno(), err.fileno()])
        code = _ended(number, begun, err.fileno(), request["until"].encode())
        seconds = time.monotonic() - begun
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read(2**20).decode(errors="backslashreplace"))
    return {"code": code, "out": said[0], "err": said[1], "seconds": round(seconds, 3)}


def _ended(number: int, begun: float, said: int, until: bytes) -> int | None:
    """The exit code of the fork; it and all that it started are killed where it hangs."""
    pause = 0.001
    while time.monotonic() - begun < PATIENCE_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause := min(0.02, 1.3 * pause))
        if until and until in os.pread(said, 2**20, 0):
            os.kill(number, signal.SIGTERM)
            until = b""
    os.killpg(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def _command(request: dict[str, Any], streams: list[int]) -> None:
    """Be `optkit WORDS`; does not return."""
    from optkit.core import process

    os.setpgid(0, 0)
    for i, descriptor in enumerate(streams):
        os.dup2(descriptor, i)
    os.chdir(request["folder"])
    process.subprocess = SimpleNamespace(Popen=ForkedChild, PIPE=subprocess.PIPE)  # type: ignore[attr-defined]
    sys.argv = ["optkit", *request["words"]]
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(i, mode, encoding="utf-8", errors=errors, closefd=False)
        for i, mode, errors in ((0, "r", "strict"), (1, "w", "surrogateescape"), (2, "w", "backslashreplace"))
    )
    code: Any = 1
    try:
        from optkit.cli import main

        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120  # what Python itself ends with
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 1)


class ForkedChild:
    """`subprocess.Popen` of `optkit.core.process`, as a fork where another Python would start."""

    def __init__(self, arguments: list[str], stderr: Any, env: dict[str, str], **_: Any) -> None:
        (theirs_in, ours_in), (ours_out, theirs_out) = os.pipe(), os.pipe()
        self._code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            for i, descriptor in enumerate((theirs_in, theirs_out, stderr.fileno())):
                os.dup2(descriptor, i)
            os.closerange(3, max(theirs_in, ours_in, ours_out, theirs_out) + 1)
            _worker(arguments[-1], env)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin, self.stdout = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")

    def poll(self) -> int | None:
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        return self._waited(0)

    def _waited(self, flags: int) -> int | None:
        if self._code is None:
            number, status = os.waitpid(self.pid, flags)
            if number:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def _worker(module: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    code = 1
    try:
        from optkit.core.process import run

        run(module)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)
