"""`optkit serve` beside clients that mean no good, and for a long time: slow sockets, idle ones, a soak.

Run: python benchmarks/serve_crowd.py DATA ARTIFACT [PART ...] [--requests 200000] [--minutes 30]
PARTs are those of `PARTS` and soak, all unless some are named. Each writes its key of
benchmarks/results/serve_crowd.json.

Good clients are 8 in a closed loop, from a process of their own, before and during the attack.
`slow_heads`: 600 connections that send a byte of a header every second, and connect again when they are
ended. `slow_readers`: 600 that ask for `/openapi.json` 20 times at once and read a byte per second. `idle`:
5,000 connections that have been answered once, and stay. `few_files`: 1,500 of them where a process may have
1,024 files. `soak`: texts of 1 to about 400 tokens, until so many requests and minutes have passed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
from serve_ends import free_port
from serve_faults import HERE, PATH, Server

from optkit.benchmarking.environment import describe

GOOD, SLOW, IDLE = 8, 600, 5000
GET = b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n"
Crowd = Callable[[int, "asyncio.Event", Counter], Awaitable[None]]


def load(port: int, texts: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, str(HERE / "load.py"), str(port), PATH, str(texts), "--clients", str(GOOD)]
    return subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)


def figures(process: subprocess.Popen) -> dict:
    found = json.loads(process.communicate()[0])
    names = ("per_second", "p50_ms", "p99_ms", "slowest_ms", "sent", "codes", "lost", "unanswered")
    return {name: found[name] for name in names}


def memory(server: Server) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


async def beside(server: Server, texts: Path, crowd: Crowd, size: int, seconds: float) -> dict:
    """Good clients before and during; `crowd(port, end, counts)` is one bad client."""
    before = figures(load(server.port, texts, 12))
    rss = memory(server)
    counts: Counter[str] = Counter()
    end = asyncio.Event()
    tasks = []
    for _ in range(size):
        tasks.append(asyncio.create_task(crowd(server.port, end, counts)))
        await asyncio.sleep(0.002)
    await asyncio.sleep(2)
    there, most = connections(server), memory(server)
    good = load(server.port, texts, seconds)
    while good.poll() is None:
        await asyncio.sleep(0.5)
        most = max(most, memory(server))
    during = figures(good)
    later = connections(server)
    end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "good_before": before,
        "good_during": during,
        "connections": there,
        "connections_later": later,
        "counts": dict(counts),
        "rss_before": rss,
        "rss_most": most,
        "exit_code": await asyncio.to_thread(server.end),
    }


def connections(server: Server) -> int:
    """What the server holds open, from clients."""
    open_ = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(c.status == psutil.CONN_ESTABLISHED for c in open_)


async def slow_head(port: int, end: asyncio.Event, counts: Counter) -> None:
    while not end.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.create_task(reader.read())
        writer.write(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: localhost\r\nx: ")
        while not answer.done() and not end.is_set():
            writer.write(b"a")
            await asyncio.wait([answer], timeout=1)
        if answer.done():
            counts["ended with " + answer.result()[9:12].decode()] += 1
        answer.cancel()
        writer.close()


async def slow_reader(port: int, end: asyncio.Event, counts: Counter) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, GET % b"/openapi.json" * 20)
        try:
            while not end.is_set() and await loop.sock_recv(connection, 1):
                await asyncio.sleep(1)
        except OSError:
            counts["cut off"] += 1


async def idle_client(port: int, end: asyncio.Event, counts: Counter) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % b"/v2/health/live")
        head = await reader.readuntil(b"\r\n\r\n")
        counts["answered with " + head[9:12].decode()] += 1
        await reader.readexactly(13)
        ended, over = asyncio.create_task(reader.read()), asyncio.create_task(end.wait())
        await asyncio.wait([ended, over], return_when=asyncio.FIRST_COMPLETED)
        counts["ended by the server"] += ended.done() and not over.done()
        ended.cancel(), over.cancel()
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        counts["refused"] += 1


#: The client, how many, for how long in seconds, files that the server may have at most, its arguments.
PARTS: dict[str, tuple] = {
    "slow_heads": (slow_head, SLOW, 40, None),
    "slow_readers": (slow_reader, SLOW, 70, None),
    "idle": (idle_client, IDLE, 20, None, "--max-connections", str(IDLE)),
    "few_files": (idle_client, 1500, 20, 1024),
}


def soak(model: Path, texts: Path, requests: int, minutes: float) -> dict:
    server = Server(model, free_port(), "--timeout", "120")
    begun, samples, total, lost = time.monotonic(), [], 0, 0
    codes: Counter[str] = Counter()
    while total < requests or time.monotonic() < begun + 60 * minutes:
        process = load(server.port, texts, 60)
        most = 0
        while process.poll() is None:
            most = max(most, memory(server))
            time.sleep(1)
        found = figures(process)
        total += found["sent"]
        codes.update(found["codes"])
        lost += found["lost"] + found["unanswered"]
        samples.append({"s": round(time.monotonic() - begun), "requests": total, "rss": most})
        print(samples[-1], dict(codes), lost, flush=True)
    half = [x["rss"] for x in samples if x["requests"] >= total / 2]
    return {
        "seconds": samples[-1]["s"],
        "requests": total,
        "codes": dict(codes),
        "lost": lost,
        "rss_start": samples[0]["rss"],
        "rss_of_second_half": [min(half), max(half)],
        "samples": samples,
        "exit_code": server.end(),
    }


def mixed(data: str, folder: str) -> Path:
    """SST-2's own texts; every fiftieth is several of them in a row, of up to about 400 tokens."""
    rows = [json.loads(x)["text"] for x in (Path(data) / "train.jsonl").read_text().splitlines()]
    chance = random.Random(0)
    for i in range(0, len(rows), 50):
        rows[i] = " ".join(chance.choices(rows, k=chance.randint(2, 16)))
    file = Path(folder) / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("model", type=Path)
    parser.add_argument("parts", nargs="*", default=[*PARTS, "soak"], metavar="PART")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--soak-key", default="soak", help="its key, where more than one model is tried")
    a = parser.parse_args()
    file = HERE / "results" / "serve_crowd.json"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        texts = mixed(a.data, folder)
        for name in a.parts:
            if name == "soak":
                part = soak(a.model, texts, a.requests, a.minutes)
            else:
                crowd, size, seconds, most_files, *arguments = PARTS[name]
                files = (min(soft, 1024), most_files or hard)
                server = Server(a.model, free_port(), *arguments, files=files)
                part = asyncio.run(beside(server, texts, crowd, size, seconds))
            found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            key = a.soak_key if name == "soak" else name
            found |= {"environment": describe(2), key: part}
            print(name, json.dumps(part), flush=True)
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
