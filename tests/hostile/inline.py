"""Commands in this process, their child processes too: no socket can be opened, and nothing has to start."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
from importlib import import_module
from unittest import mock

import pytest

from optkit.cli import main
from optkit.core import process
from optkit.events import from_json, silent, to_json


class Began(BaseException):
    """What was given was taken, and the long work on it would begin."""


class InlineChild(process.Child):
    """`optkit.core.process.Child` without the process: the same service, the same JSON, the same errors."""

    def __init__(self, module, threads=None, timeout_s=3600.0):
        self.module, self.timeout_s, self.pid_ = module, timeout_s, 0
        self._service = import_module(module).serve()

    pid = property(lambda self: 0)

    def call(self, name, events=silent, **arguments):
        self._service.emit = lambda event: events(from_json(json.loads(json.dumps(to_json(event)))))
        try:
            result = getattr(self._service, name)(**json.loads(json.dumps(arguments)))
            return json.loads(json.dumps(result))
        except Exception as error:
            raise process._rebuilt(process._described(error)) from error

    def pause(self):
        return

    resume = close = pause


@contextlib.contextmanager
def inline():
    """Every child process is this one."""
    own = {name: value for name, value in vars(InlineChild).items() if name not in ("__dict__", "__doc__")}
    with contextlib.ExitStack() as stack:
        for name in ("__init__", "call", "pause", "resume", "close", "pid"):
            stack.enter_context(mock.patch.object(process.Child, name, own[name]))
        yield


def stop_before_the_work(monkeypatch) -> None:
    """Training and exporting raise `Began`."""
    import torch
    import transformers

    began = mock.Mock(side_effect=Began)
    monkeypatch.setattr(transformers.Trainer, "train", began)
    monkeypatch.setattr(torch.onnx, "export", began)


def run(arguments, monkeypatch) -> int | None:
    """The exit code of a command in this process, where no socket can be opened; None where work began."""
    refused = mock.Mock(side_effect=AssertionError("it opened a socket"))
    monkeypatch.setattr(sys, "argv", ["optkit", *map(str, arguments)])
    with mock.patch.object(socket.socket, "connect", refused), contextlib.redirect_stdout(io.StringIO()):
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        except Began:
            return None
    return int(ended.value.code or 0)
