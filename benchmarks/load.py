"""Load on an HTTP server from a process of its own: closed loop (N clients) or open loop (Poisson arrivals).

Run: python benchmarks/load.py PORT PATH TEXTS --clients 64 --seconds 10 [--rate 500] [--body '{"x": TEXT}']
TEXTS is a JSONL file with a column `text`; TEXT in the body is replaced by each in turn. Prints JSON.

In the closed loop every client sends its next request when it has its answer. In the open loop requests
are sent when they are due, whatever the server does, over as many connections as that takes: that is how
a server is driven above its capacity. Latency counts from the moment a request is due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter, deque
from pathlib import Path


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load, self._received = load, bytearray()
        self._due: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def send(self, due: float, request: bytes) -> None:
        self._due = due
        self._load.sent += 1
        self._transport.write(request)  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        lower = bytes(head).lower()
        place = lower.find(b"content-length:")
        length = int(lower[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(rest) < length:
            return
        self._received.clear()
        due, self._due = self._due, None
        told = b"retry-after:" in lower
        self._load.answered(int(head[9:12]), time.perf_counter() - due, told)  # type: ignore[operator]
        if b"connection: close" in lower:
            self._transport.close()  # type: ignore[union-attr]
            self._load.ended(self)
        else:
            self._load.free(self)

    def connection_lost(self, reason: Exception | None) -> None:
        if self._due is not None:
            self._load.lost += 1
        self._load.ended(self)


class Load:
    """`reconnect`: a client whose connection was ended opens another."""

    def __init__(
        self, port: int, requests: list[bytes], clients: int, rate: float | None, reconnect: bool
    ) -> None:
        self._port, self._requests, self._clients, self._rate = port, requests, clients, rate
        self._reconnect = reconnect
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._next = 0
        self._running = True
        self._begun = 0.0
        self.sent = self.lost = self.refused = 0
        self.codes: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.refusals: list[float] = []
        self.without_retry_after = 0
        self.per_second: Counter[int] = Counter()
        self._tasks: set[asyncio.Task] = set()

    async def run(self, seconds: float) -> dict:
        loop = asyncio.get_running_loop()
        self._begun = time.perf_counter()
        for _ in range(self._clients):
            await self._connect()
        self._begun = time.perf_counter()
        if self._rate is None:
            for connection in list(self._idle):
                self.free(connection, first=True)
            self._idle.clear()
            while time.perf_counter() < self._begun + seconds and (self._reconnect or self._open):
                await asyncio.sleep(0.02)
        else:
            due = self._begun
            while due < self._begun + seconds:
                due += random.expovariate(self._rate)
                wait = due - time.perf_counter()
                if wait > 0.0005:
                    await asyncio.sleep(wait)
                if self._idle:
                    self._idle.popleft().send(due, self._request())
                elif len(self._open) < 4000:
                    self._later(self._connect(due))
                else:
                    self.refused += 1
        elapsed = time.perf_counter() - self._begun
        self._running, in_time = False, self.codes[200]
        deadline = loop.time() + 15
        while self.sent > sum(self.codes.values()) + self.lost and loop.time() < deadline:
            await asyncio.sleep(0.02)
        return self._result(elapsed, in_time)

    def answered(self, code: int, seconds: float, told_when: bool) -> None:
        self.codes[code] += 1
        if code == 200:
            self.latencies.append(seconds)
            self.per_second[int(time.perf_counter() - self._begun)] += 1
        else:
            self.refusals.append(seconds)
            self.without_retry_after += not told_when

    def free(self, connection: Connection, first: bool = False) -> None:
        if self._rate is None and self._running:
            connection.send(time.perf_counter(), self._request())
        elif not first:
            self._idle.append(connection)

    def ended(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            if self._reconnect and self._running and self._rate is None:
                self._later(self._connect(time.perf_counter()))

    async def _connect(self, due: float | None = None) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self.refused += 1
            if self._reconnect and self._running and self._rate is None:
                await asyncio.sleep(0.02)
                self._later(self._connect(time.perf_counter()))
            return
        self._open.add(connection)
        if due is None:
            self._idle.append(connection)
        else:
            connection.send(due, self._request())

    def _later(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _request(self) -> bytes:
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]

    def _result(self, elapsed: float, in_time: int) -> dict:
        ms = sorted(1000 * x for x in self.latencies)
        return {
            "seconds": round(elapsed, 2),
            "sent": self.sent,
            "codes": dict(self.codes),
            "lost": self.lost,
            "unanswered": self.sent - sum(self.codes.values()) - self.lost,
            "refused_connections": self.refused,
            "per_second": round(in_time / elapsed, 1),
            "p50_ms": percentile(self.latencies, 0.5),
            "p99_ms": percentile(self.latencies, 0.99),
            "slowest_ms": round(ms[-1], 3) if ms else None,
            "refused_p99_ms": percentile(self.refusals, 0.99),
            "refused_without_retry_after": self.without_retry_after,
            "mean_ms": round(statistics.fmean(ms), 3) if ms else None,
            "by_second": [self.per_second[i] for i in range(int(elapsed) + 1)],
        }


def percentile(seconds: list[float], share: float) -> float | None:
    """In milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def requests_of(texts: Path, path: str, body: str, key: str | None = None) -> list[bytes]:
    """Whole HTTP requests, made before the clock runs; in a fixed random order of texts."""
    rows = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    made = []
    for text in rows:
        content = body.replace("TEXT", json.dumps(text)).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        made.append(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("texts", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--body", default='{"instances": [TEXT]}')
    parser.add_argument("--no-reconnect", action="store_true")
    a = parser.parse_args()
    load = Load(a.port, requests_of(a.texts, a.path, a.body), a.clients, a.rate, not a.no_reconnect)
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    print(json.dumps(run(load.run(a.seconds))))


if __name__ == "__main__":
    main()
