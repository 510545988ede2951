"""How `optkit serve` ends: on signals after swaps under load, on signals while it starts, without its parent.

Run: python benchmarks/serve_ends.py DATA ONNX_ARTIFACT OPENVINO_ARTIFACT [PART ...] [--times 20]
PARTs are all of `PARTS` unless some are named. Each writes its key of benchmarks/results/serve_ends.json.
Nothing is timed but what has a limit; a busy machine does no harm.

`signals`: 16 clients in a closed loop, each until its connection ends; the served folder is replaced one to
three times, ONNX by OpenVINO and back; then SIGTERM, SIGINT or SIGHUP, half of them within the next swap.
`starting`: the signal comes while the server starts. `parents`: kill -9 to the parent of two workers under
load; how long until no process is left, and whether the port is free then.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
from serve_faults import HERE, Server, result

from optkit.benchmarking.environment import describe

ORPHAN_S = 5.0


def replace(live: Path, model: Path, home: Path) -> None:
    """As `optkit compress --force` puts a folder in the place of another."""
    new = Path(shutil.copytree(model, tempfile.mkdtemp(dir=home) + "/new"))
    live.rename(new.parent / "old")
    new.rename(live)


def swapped(server: Server, count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while sum(line["event"] == "swapped" for line in server.lines()) < count:
        assert time.monotonic() < deadline, server.lines()[-5:]
        assert server.process.poll() is None, server.lines()[-5:]
        time.sleep(0.05)


def signals(data: str, models: list[Path], times: int, workers: int = 1) -> dict:
    return {
        number.name: total([one_signal(data, models, number, workers, seed) for seed in range(times)])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }


def one_signal(data: str, models: list[Path], number: signal.Signals, workers: int, seed: int) -> dict:
    chance = random.Random(f"{number}{workers}{seed}")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        live = Path(shutil.copytree(models[0], home / "live"))
        more = ["--watch", "0.1", "--connection-requests", "1000000", "--threads", "1"]
        server = Server(live, free_port(), "--workers", str(workers), *more)
        while len(server.ready()) < workers:
            time.sleep(0.05)
        load = server.load(data, 90, "--no-reconnect")
        swaps = chance.randint(1, 3)
        for i in range(swaps):
            replace(live, models[(i + 1) % 2], home)
            swapped(server, (i + 1) * workers)
        if within := chance.random() < 0.5:
            replace(live, models[(swaps + 1) % 2], home)
        time.sleep(chance.uniform(0.1, 0.6))
        server.process.send_signal(number)
        begun = time.monotonic()
        code = server.process.wait(60)
        seconds = time.monotonic() - begun
        found = {**result(load), "swaps": swaps, "within_a_swap": within, "exit_code": code}
        bad = [line for line in server.lines() if line["level"] in ("error", "critical")]
        return {**found, "seconds": round(seconds, 2), "errors_logged": bad[:3]}


def total(runs: list[dict]) -> dict:
    """The sums, the worst, and whatever was not as it should be."""
    lost = [r for r in runs if r["lost"] or r["unanswered"] or set(r["codes"]) - {"200"}]
    return {
        "times": len(runs),
        "swaps": sum(r["swaps"] for r in runs),
        "within_a_swap": sum(r["within_a_swap"] for r in runs),
        "requests": sum(r["sent"] for r in runs),
        "answered": sum(r["codes"].get("200", 0) for r in runs),
        "lost": sum(r["lost"] + r["unanswered"] for r in runs),
        "exit_codes": sorted({r["exit_code"] for r in runs}),
        "longest_s": max(r["seconds"] for r in runs),
        "wrong": [r for r in runs if r in lost or r["exit_code"] or r["errors_logged"]],
    }


def starting(data: str, models: list[Path], times: int, workers: int = 1) -> dict:
    """The exit code where the server had begun is 0; before that, that of any command that is ended."""
    found = {}
    begun = time.monotonic()
    whole = Server(models[1], free_port(), "--workers", str(workers))
    needed = time.monotonic() - begun
    whole.end()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        runs = [one_start(models[1], number, workers, needed * (i + 0.5) / times) for i in range(times)]
        found[number.name] = {
            "times": times,
            "over_s": round(needed, 2),
            "exit_codes": dict(Counter(str(r["exit_code"]) for r in runs)),
            "longest_s": max(r["seconds"] for r in runs),
            "left": sum(r["left"] for r in runs),
            "tracebacks": [r["traceback"] for r in runs if r["traceback"]],
        }
    return found


def one_start(model: Path, number: signal.Signals, workers: int, after: float) -> dict:
    command = [sys.executable, "-m", "optkit", "serve", f"m={model}", "--port", str(free_port())]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--workers", str(workers)], stderr=log, stdout=log)
        time.sleep(after)
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        process.send_signal(number)
        begun = time.monotonic()
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "none: it goes on"
        seconds = time.monotonic() - begun
        _, alive = psutil.wait_procs(family, timeout=ORPHAN_S)
        log.seek(0)
        said = log.read().decode()
    return {
        "exit_code": code,
        "seconds": round(seconds, 2),
        "left": len(alive),
        "traceback": said[-1500:] if "Traceback" in said else "",
    }


def parents(data: str, models: list[Path], times: int) -> dict:
    seconds, left, free = [], 0, 0
    for seed in range(times):
        port = free_port()
        server = Server(models[seed % 2], port, "--workers", "2", "--threads", "1")
        while len(server.ready()) < 2:
            time.sleep(0.05)
        load = server.load(data, 8)
        time.sleep(random.Random(seed).uniform(0.5, 2.0))
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        begun = time.monotonic()
        _, alive = psutil.wait_procs(family, timeout=ORPHAN_S)
        seconds.append(round(time.monotonic() - begun, 2))
        left += len(alive)
        free += is_free(port)
        server.process.wait()
        load.communicate()
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    return {"times": times, "left": left, "port_free": free, "seconds": seconds, "longest_s": max(seconds)}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PARTS = {
    "signals": signals,
    "signals_2_workers": partial(signals, workers=2),
    "parents": parents,
    "starting": starting,
    "starting_2_workers": partial(starting, workers=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("models", nargs=2, type=Path)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART")
    parser.add_argument("--times", type=int, default=20)
    a = parser.parse_args()
    file = HERE / "results" / "serve_ends.json"
    for name in a.parts:
        part = PARTS[name](a.data, a.models, a.times)
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found |= {"environment": describe(2), name: part}
        print(name, json.dumps(part), flush=True)
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the servers would ignore it, as they should
    main()
