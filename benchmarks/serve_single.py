"""What HTTP adds for one client: `optkit serve` beside the same predictor in a process of its own.

Run: python benchmarks/serve_single.py DATA ONNX_ARTIFACT [OPENVINO_ARTIFACT] [CHECKOUT]
Writes benchmarks/results/serve_single.json. With CHECKOUT, a folder with another version of optkit, that
version serves in turns with this one.

Prediction, written before the first run beside an older version, which `serve.py compare` had put at 1.17 ms:
ways to models that pass FastAPI by, and answers that go out before they are counted, take 0.2 to 0.3 ms off,
so that HTTP adds 0.9 ms with ONNX Runtime.

What happened: 0.6 ms with ONNX Runtime, but the older version takes only 0.7 here: the difference of 0.09 ms
[-0.14, 0.32] is not shown over 6 rounds (with OpenVINO 0.28 [-0.12, 0.68]). Two servers of the very same
code differed by 0.2 ms in one trial, which is why a round has new processes. That answers go out first was
taken back before this run, unmeasured: the loop that they wake would wait for the interpreter.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from serve import Server, ours

from optkit.benchmarking.environment import describe
from optkit.benchmarking.statistics import student_quantile

HERE = Path(__file__).parent
ROUNDS, BLOCKS, TEXTS = 6, 4, 30
IN_PROCESS = """
import json, sys, time, optkit
predictor = optkit.load(sys.argv[1])
for line in sys.stdin:
    texts, found = json.loads(line), []
    for text in texts:
        begun = time.perf_counter(); predictor.predict([text]); found.append(time.perf_counter() - begun)
    print(json.dumps(found), flush=True)
"""


def main(data: str, ort: str, openvino: str | None = None, checkout: str | None = None) -> None:
    found = {"environment": describe(2), "onnxruntime": one_client(ort, data, 8211, checkout)}
    if openvino:
        found["openvino"] = one_client(openvino, data, 8213, checkout)
    file = HERE / "results" / "serve_single.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in found.items() if k != "environment"}, indent=1))


def one_client(model: str, data: str, port: int, checkout: str | None) -> dict:
    """Medians by round, and what HTTP adds; a round has new processes, as two of the same kind differ."""
    rows = [json.loads(x)["text"] for x in Path(f"{data}/validation.jsonl").read_text().splitlines()]
    random.Random(1).shuffle(rows)
    medians: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, taken in one_round(model, rows, port, checkout).items():
            medians.setdefault(name, []).append(round(1000 * statistics.median(taken), 3))
    own = medians["predictor"]
    added = {name: mean_and_interval([a - b for a, b in zip(medians[name], own)]) for name in medians}
    pair = [a - b for a, b in zip(medians["http"], medians.get("http_before", own))]
    return {
        "rounds": ROUNDS,
        "texts_per_round": BLOCKS * TEXTS,
        "p50_ms": medians,
        "added_ms": {name: found for name, found in added.items() if name != "predictor"},
        **({"after_minus_before_ms": mean_and_interval(pair)} if checkout else {}),
    }


def one_round(model: str, rows: list[str], port: int, checkout: str | None) -> dict[str, list[float]]:
    """Seconds per text of each contestant; one runs at a time, in blocks of random order."""
    servers = [ours("http", model, port)]
    servers += [ours("http_before", model, port + 1, checkout=checkout)] if checkout else []
    inside = subprocess.Popen(
        [sys.executable, "-c", IN_PROCESS, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    contestants = [Server("predictor", [], 0, process=inside), *servers]
    times: dict[str, list[float]] = {server.name: [] for server in contestants}
    try:
        for server in random.sample(servers, len(servers)):
            server.start()
        ask = {"predictor": lambda texts: in_process(inside, texts)}
        ask |= {server.name: Asking(server) for server in servers}
        ask["predictor"](rows[:1])
        for server in contestants:
            server.signal(signal.SIGSTOP)
        for block in range(BLOCKS + 1):
            texts = rows[TEXTS * block : TEXTS * block + TEXTS]
            for server in random.sample(contestants, len(contestants)):
                server.signal(signal.SIGCONT)
                taken = ask[server.name](texts)
                server.signal(signal.SIGSTOP)
                times[server.name] += taken if block else []  # the first warms all up
    finally:
        for server in contestants:
            if server.process:
                server.signal(signal.SIGKILL)
                server.process.wait()
    return times


def in_process(process: subprocess.Popen, texts: list[str]) -> list[float]:
    process.stdin.write(json.dumps(texts) + "\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    return json.loads(process.stdout.readline())  # type: ignore[union-attr]


class Asking:
    """A client of Python's own library, on one connection; seconds from request to answer."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port)
        self._path = server.path

    def __call__(self, texts: list[str]) -> list[float]:
        found = []
        for text in texts:
            body = json.dumps({"instances": [text]})
            begun = time.perf_counter()
            self._connection.request("POST", self._path, body, {"content-type": "application/json"})
            self._connection.getresponse().read()
            found.append(time.perf_counter() - begun)
        return found


def mean_and_interval(values: list[float]) -> dict:
    """Over rounds, with Student's 95% interval."""
    centre = statistics.fmean(values)
    wide = student_quantile(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": round(centre, 3), "low": round(centre - wide, 3), "high": round(centre + wide, 3)}


if __name__ == "__main__":
    main(*sys.argv[1:])
