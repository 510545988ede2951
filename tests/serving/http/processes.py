"""`optkit serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Server:
    def __init__(self, process: subprocess.Popen, log) -> None:
        self.process, self._log = process, log
        deadline = time.monotonic() + 60
        while (found := re.search(r"on https?://[^:]+:(\d+)", self.log())) is None:
            assert process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.port = int(found[1])
        while "Application startup complete" not in self.log():
            assert process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8")  # by a place of its own in the file

    def ask(self, text: str = "a fine film", name: str = "model") -> tuple[int, dict]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"content-type": "application/json"}
            connection.request(
                "POST", f"/v1/models/{name}:predict", json.dumps({"instances": [text]}), headers
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@contextmanager
def running(*arguments: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "optkit", "serve", "--port", "0", *arguments]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
        try:
            yield Server(process, log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
