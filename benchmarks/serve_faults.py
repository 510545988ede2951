"""What goes wrong in production, on purpose and under load: a killed worker, SIGTERM, swaps, broken requests.

Run: python benchmarks/serve_faults.py DATA ARTIFACT [PART ...]
PARTs are sigterm, killed_worker, hot_swap and malformed, all unless some are named. Each writes its key
of benchmarks/results/serve_faults.json. Nothing is timed; a busy machine does no harm.

Predictions, written before the run: SIGTERM and the hot swap lose no request that was sent on an open
connection; the killed worker loses at most what it held, and is back within 15 seconds; of the malformed
requests none gets anything but 4xx.

What happened: all of it. The first runs killed a worker that had every one of the 16 connections, as clients
that connect in one burst met the same worker. Since then a connection ends after 100 requests: 6 were lost.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from optkit.benchmarking.environment import describe

HERE = Path(__file__).parent
PATH = "/v1/models/m:predict"


class Server:
    """`files` are the soft and the hard limit of open files that it starts with."""

    def __init__(self, model: Path, port: int, *arguments: str, files: tuple[int, int] | None = None) -> None:
        self.port = port
        command = [sys.executable, "-m", "optkit", "serve", f"m={model}", "--port", str(port), *arguments]
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115  # deleted with this object
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, files) if files else None
        self.process = subprocess.Popen(command, stderr=self._log, preexec_fn=limit)
        while not self.get("/v2/health/ready"):
            assert self.process.poll() is None, self.lines()
            time.sleep(0.1)

    def lines(self) -> list[dict]:
        """What the server has logged."""
        whole = Path(self._log.name).read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def get(self, path: str) -> str:
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            return urllib.request.urlopen(url, timeout=10).read().decode()
        except OSError:
            return ""

    def load(self, data: str, seconds: float, *arguments: str) -> subprocess.Popen:
        texts = f"{data}/validation.jsonl"
        command = [sys.executable, str(HERE / "load.py"), str(self.port), PATH, texts, "--clients", "16"]
        given = [*command, "--seconds", str(seconds), *arguments]
        return subprocess.Popen(given, stdout=subprocess.PIPE, text=True)

    def ready(self) -> list[int]:
        """The processes that have said that they are ready, oldest first."""
        return [line["pid"] for line in self.lines() if line["event"] == "ready"]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def result(load: subprocess.Popen) -> dict:
    found = json.loads(load.communicate()[0])
    return {k: found[k] for k in ("sent", "codes", "lost", "unanswered", "refused_connections")}


def sigterm(data: str, model: Path) -> dict:
    """Clients end with their connection; each must have the answer to whatever it sent."""
    server = Server(model, 8301)
    load = server.load(data, 8, "--no-reconnect")
    time.sleep(4)
    code = server.end()
    return {**result(load), "exit_code": code}


def killed_worker(data: str, model: Path) -> dict:
    server = Server(model, 8302, "--workers", "2", "--threads", "1")
    while len(server.ready()) < 2:
        time.sleep(0.1)
    load = server.load(data, 45)
    time.sleep(20)  # the clients have connected again by then, and to both
    before = server.ready()
    begun = time.monotonic()
    psutil.Process(before[0]).kill()
    while len(server.ready()) == len(before) and time.monotonic() < begun + 60:
        time.sleep(0.05)
    back = time.monotonic() - begun if len(server.ready()) > len(before) else None
    found = result(load)
    return {**found, "clients": 16, "seconds_until_back": back and round(back, 1), "exit_code": server.end()}


def hot_swap(data: str, model: Path) -> dict:
    """The folder is replaced four times by a copy that differs in its configuration, so in its version."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        live = Path(shutil.copytree(model, home / "live"))
        server = Server(live, 8303, "--watch", "0.2")
        load = server.load(data, 20)
        seen = [json.loads(server.get("/v1/models/m"))["version"]]
        for i in range(4):
            time.sleep(2)
            new = Path(shutil.copytree(model, home / f"new{i}"))
            config = json.loads((new / "config.json").read_text())
            (new / "config.json").write_text(json.dumps({**config, "swap": i}))
            seal(new)
            live.rename(home / f"old{i}")
            new.rename(live)
            deadline = time.monotonic() + 15
            while (now := json.loads(server.get("/v1/models/m"))["version"]) == seen[-1]:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            seen.append(now)
        return {**result(load), "versions": seen, "exit_code": server.end()}


def seal(folder: Path) -> None:
    from optkit.core.files import sha256

    manifest = json.loads((folder / "optkit.json").read_text())
    manifest["files"]["config.json"] = sha256(folder / "config.json")
    (folder / "optkit.json").write_text(json.dumps(manifest))


def malformed(data: str, model: Path, count: int = 10_000) -> dict:
    """Each on a connection of its own; a status of 0 is a connection that the server ended without one."""
    server = Server(model, 8304, "--max-body", "100000", "--timeout", "2")
    chance = random.Random(0)
    codes: Counter[str] = Counter()
    slow = [slow_body(server.port, kind) for kind in ("head", "body") for _ in range(SLOW)]
    for i in range(count - len(slow)):
        kind = list(KINDS)[i % len(KINDS)]
        codes[f"{kind}: {ask(server.port, KINDS[kind](chance))}"] += 1
    for kind, connection in slow:
        codes[f"slow {kind}: {status(connection)}"] += 1
        connection.close()
    alive = "ready" in server.get("/v2/health/ready") and ask(server.port, post(GOOD)) == 200
    bugs = [line for line in server.lines() if line["level"] in ("error", "critical")]
    bad = {k: v for k, v in codes.items() if not 400 <= int(k.rsplit(" ", 1)[1]) < 500}
    return {
        "requests": count,
        "codes": dict(sorted(codes.items())),
        "not_4xx": bad,
        "errors_logged": bugs[:5],
        "alive": alive,
        "exit_code": server.end(),
    }


#: How many heads and how many bodies never end; each costs the server's own limit in seconds.
SLOW = 8
GOOD = b'{"instances": ["a fine film"]}'


def post(body: bytes, length: int | None = None, kind: str = "application/json", path: str = PATH) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def raw_tensor(content: bytes, size: int) -> bytes:
    """The Open Inference Protocol's binary form; `content` is noise, and `size` mostly wrong."""
    entry = {"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry]}).encode()
    kind = f"application/octet-stream\r\ninference-header-content-length: {len(head)}"
    return post(head + content, kind=kind, path="/v2/models/m/infer")


def noise(chance: random.Random, most: int) -> bytes:
    return chance.randbytes(chance.randint(1, most))


KINDS = {
    "broken JSON": lambda r: post(GOOD[: r.randint(0, 29)]),
    "wrong type": lambda r: post(
        json.dumps(
            {"instances": r.choice([1, None, "a", {}, [1], [None], [[]], [["a"]], [{"b": 1}]])}
        ).encode()
    ),
    "random bytes": lambda r: post(noise(r, 300)),
    "invalid UTF-8": lambda r: post(b'{"instances": ["' + bytes([r.randint(128, 255)]) + b'"]}'),
    "null bytes": lambda r: post(b"\x00" * r.randint(1, 200)),
    "lone surrogate": lambda r: post(b'{"instances": ["\\ud8%02x"]}' % r.randint(0, 255)),
    "deep": lambda r: post(b"[" * r.randint(1000, 90_000)),
    "too large": lambda r: post(b"x", 10 ** r.randint(6, 12)),
    "too many": lambda r: post(json.dumps({"instances": ["a"] * r.randint(129, 2000)}).encode()),
    "wrong content type": lambda r: post(b'{"instances": ["a"]}', kind=r.choice(["text/plain", "", "a/b"])),
    "no such path": lambda r: post(
        b"{}", path="/v1/models/" + r.choice(["../etc/passwd", "%00", "m", "x:predict"])
    ),
    "broken tensors": lambda r: post(
        json.dumps({"inputs": [{"name": "text", "shape": [r.randint(2, 9)], "datatype": "BYTES"}]}).encode(),
        path="/v2/models/m/infer",
    ),
    "broken raw tensors": lambda r: raw_tensor(noise(r, 60), r.randint(-5, 90)),
    "broken head": lambda r: (
        b"POST " + noise(r, 50).replace(b"\n", b"") + b" HTTP/1.1\r\n" + noise(r, 50) + b"\r\n\r\n"
    ),
    "bad length": lambda r: (
        PREFIX + r.choice([b"-1", b"abc", b"1\r\ncontent-length: 2", b"9" * 30]) + b"\r\n\r\n{}"
    ),
    "bad chunks": lambda r: CHUNKED + noise(r, 40).replace(b"\n", b"") + b"\r\n{}",
}
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: 127.0.0.1\r\n"
PREFIX = HEAD + b"content-type: application/json\r\ncontent-length: "
CHUNKED = PREFIX.replace(b"content-length: ", b"transfer-encoding: chunked\r\n\r\nzz")


def ask(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with suppress(OSError):  # the answer may be there before all was sent
            connection.sendall(request)
        return status(connection)


def slow_body(port: int, kind: str) -> tuple[str, socket.socket]:
    """A request that ends within its head, or within its body."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(PREFIX + (b"100\r\n\r\n{" if kind == "body" else b"10"))
    return kind, connection


def status(connection: socket.socket) -> int:
    try:
        answer = connection.recv(4096)
        return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    except OSError:
        return 0


PARTS = {
    "sigterm": sigterm,
    "killed_worker": killed_worker,
    "hot_swap": hot_swap,
    "malformed": malformed,
}


def main(data: str, artifact: str, *parts: str) -> None:
    file = HERE / "results" / "serve_faults.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    found["environment"] = describe(2)
    for name in parts or PARTS:
        found[name] = PARTS[name](data, Path(artifact))
        print(name, json.dumps(found[name]), flush=True)
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
