"""Child processes as forks of one process that has imported the heavy libraries: milliseconds, not seconds.

That process forks twice, and the fork between ends at once: what is left belongs to the process that asked
for it, its subreaper meanwhile (Linux only). It can be waited for, listed and killed as any other child.
`Fork([sys.executable, "-m", "optkit", ...])` is the command itself, whose own children are forks of it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module, invalidate_caches
from itertools import dropwhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

#: What most children import.
_MODULES = (
    "optkit",  # first: it switches the reports of use of the others off
    *(
        "onnx",
        "onnxruntime",
        "torch",
        "transformers",
        "datasets",
        "sklearn.metrics",
        "scipy.stats",
        "onnxscript",
    ),
    *("torch.onnx", "torch._dynamo", "transformers.trainer", "transformers.models.bert.modeling_bert"),
    *("openvino", "nncf", "rich.table"),
    *(f"optkit.{room}.worker" for room in ("passes", "benchmarking", "training", "benchmarking.reference")),
    *(
        "optkit.benchmarking.probe",
        "optkit.models.tokenization_worker",
        "optkit.passes.pruning.latency_worker",
    ),
    *("transformers.pipelines", "transformers.modeling_utils", "optkit.benchmarking.reference.tasks"),
    *("sentence_transformers", "accelerate", "peft", "optuna", "pyarrow.parquet", "PIL.Image", "jinja2"),
    *("optkit.cli", "optkit.compression.search.run", "optkit.training.finetune", "optkit.training.tune"),
    *("optkit.preprocessing.run", "optkit.serving.package", "optkit.serving.offline"),
    "optkit.serving.http.run",
)
_PR_SET_CHILD_SUBREAPER = 36
_ROOT = str(Path(__file__).resolve().parents[1])


class Fork(subprocess.Popen):
    """`subprocess.Popen` of `python -c CODE`, `python -m MODULE` or `python FILE`, with words behind."""

    _server: socket.socket | None = None

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        request = {
            "words": [str(word) for word in asked["args"][1:]],
            "folder": str(asked["cwd"] or os.getcwd()),
            "environment": dict(asked["env"] if asked["env"] is not None else os.environ),
            "session": asked["start_new_session"],
        }
        server = self._connected()
        _subreaper(True)
        try:
            fds = [i if fd == -1 else fd for i, fd in enumerate(streams)]
            socket.send_fds(server, [json.dumps(request).encode()], fds)
            self.pid = int(server.recv(64))
            server.recv(64)  # the fork between has ended
        finally:
            _subreaper(False)
        self._child_created = True
        named = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in named))

    @classmethod
    def _connected(cls) -> socket.socket:
        """The process that is forked, started when it is first asked for; it ends with this one."""
        if Fork._server is None:
            Fork._server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            code = f"from tests.forks import serve; serve({theirs.fileno()})"
            environment = dict(os.environ, PYTHONPATH=os.pathsep.join([_ROOT, *filter(None, sys.path)]))
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
            process.returncode = 0  # nobody waits for it
            theirs.close()
        return Fork._server


def _subreaper(on: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


Ended = list[tuple[int, str, str]]


def one_rank(*words: str, timeout: float = 300) -> Ended:
    """The exit code of `python WORDS` and what it said."""
    return _ended([{}], words, timeout)


def two_ranks(*words: str, timeout: float = 300) -> Ended:
    """The same of two processes, started as torchrun starts those of a job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return _ended([job | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"], words, timeout)


def _ended(environments: list[dict[str, str]], words: tuple[str, ...], timeout: float) -> Ended:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    path = os.pathsep.join(p for p in sys.path if p)
    whole = [{**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more} for more in environments]
    started = [Fork([sys.executable, *words], env=environment, **streams) for environment in whole]
    said = [process.communicate(timeout=timeout) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said)]


def use_forks() -> None:
    """Child processes that optkit starts in this process are forks from now on."""
    from optkit.core import process

    process.subprocess = SimpleNamespace(Popen=Fork, PIPE=subprocess.PIPE)  # type: ignore[attr-defined]


def serve(number: int) -> None:
    """The process that is forked; `number` is its socket. It ends where the other side is closed."""
    for module in _MODULES:
        with suppress(*() if module.startswith("optkit") else (ImportError,)):
            import_module(module)
    cli = import_module("optkit.cli")
    cli.app = import_module("typer.main").get_command(cli.app)  # once, not in every fork
    if home := os.environ.get("OPTKIT_TEST_EXPORTS"):
        torch_export = import_module("optkit.passes.torch_export")
        torch_export.save = import_module("tests.exports").remembering(Path(home))
    gc.freeze()
    _answer(socket.socket(fileno=number))


def _answer(channel: socket.socket) -> None:
    while True:
        message, fds, *_ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            return
        if b"optkit.passes.worker" in message:
            import_module("tests.exports").warm()
        request = json.loads(message)
        between = os.fork()
        if not between:
            between, (ready, begun) = os.getpid(), os.pipe()
            if child := os.fork():
                os.close(begun)
                os.read(ready, 1)  # who is told of the child may signal its group at once
                channel.send(str(child).encode())
                os.kill(between, signal.SIGKILL)  # nothing of it is to be written
            if request["session"]:
                os.setsid()
            os.close(ready)
            os.close(begun)
            while os.getppid() == between:  # a child that dies with its parent must have the right one
                time.sleep(0.0002)
            channel.close()
            _become(request, fds)
        os.waitpid(between, 0)
        for fd in fds:
            os.close(fd)
        channel.send(b"ended")


def _become(request: dict[str, Any], fds: list[int]) -> NoReturn:
    for i, fd in enumerate(fds):
        os.dup2(fd, i)
        os.close(fd)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = list(dict.fromkeys([*filter(None, paths), *sys.path]))
    invalidate_caches()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(i, mode, encoding="utf-8", errors=errors, closefd=False)
        for i, mode, errors in ((0, "r", "strict"), (1, "w", "surrogateescape"), (2, "w", "backslashreplace"))
    )
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))
    request["words"] = [*dropwhile(lambda word: word.startswith("-X"), request["words"])]
    if request["words"][:2] == ["-m", "optkit"]:
        _serve_own_children()
    code: Any = 0
    try:
        _run(request["words"])
    except SystemExit as ended:
        code = ended.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = 120  # what Python itself ends with
    os._exit(code)


def _serve_own_children() -> None:
    """A fork of this process, while nothing runs in it, is what its children are forks of."""
    Fork._server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        Fork._server.close()
        Fork._server = None
        os.setsid()  # Ctrl-C is for the command
        null = os.open(os.devnull, os.O_RDWR)
        for i in range(3):
            os.dup2(null, i)
        _answer(theirs)
        os._exit(0)
    theirs.close()
    use_forks()


def _run(words: list[str]) -> None:
    kind, *rest = words
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")
