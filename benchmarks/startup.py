"""How long a fresh process takes to its first line of help, and to its first answer.

Run: python benchmarks/startup.py ARTIFACT
Writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from optkit.benchmarking.environment import describe

HERE = Path(__file__).parent
TIMES = 15
FIRST_ANSWER = """
import sys, optkit
predictor = optkit.load(sys.argv[1])
predictor.predict(["a fine film"])
heavy = {"torch", "transformers", "datasets", "onnx"} & set(sys.modules)
assert not heavy, heavy
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main(artifact: str) -> None:
    commands = {
        "help": [sys.executable, "-m", "optkit", "--help"],
        "load_and_first_answer": [sys.executable, "-c", FIRST_ANSWER, artifact],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peak = 0
    for _ in range(TIMES):  # interleaved, so that drift meets both
        for name, command in commands.items():
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds[name].append(round(time.perf_counter() - begun, 4))
            if name == "load_and_first_answer":
                peak = max(peak, int(done.stdout))
    result = {
        "environment": describe(),
        "peak_rss_bytes": peak,
        "seconds": seconds,
        "median_s": {name: statistics.median(values) for name, values in seconds.items()},
        "slowest_s": {name: max(values) for name, values in seconds.items()},
    }
    file = HERE / "results" / "startup.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: result[k] for k in ("median_s", "slowest_s", "peak_rss_bytes")}))


if __name__ == "__main__":
    main(sys.argv[1])
