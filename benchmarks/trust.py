"""Can a ratio be believed? The same models together and alone, and with a busy loop beside them.

Run: python benchmarks/trust.py CHECKPOINT INT8_ARTIFACT [together|busy]
Writes benchmarks/results/trust.json, or one part of it anew; about 8 minutes in all.

`together`: torch, fp32 ONNX Runtime and INT8 in one `optkit bench`, then each in a bench of its own, in
turn, REPEATS times. Per model: time alone over time together, with a 95% interval (Welch's t on the
logarithms of the medians of the processes). `busy`: the same bench on a quiet machine and beside a
process that loops on core 0.

Prediction, written before the run: alone over together holds 1 for every model; beside the busy loop
every run is marked UNSTABLE, because one of two cores is taken.
What happened: as predicted, once the loop no longer ran as this script's own child: what the measuring
process and its descendants use counts as their own work, so the first run marked nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from scipy import stats

from optkit.benchmarking.benchmark import benchmark
from optkit.benchmarking.environment import describe
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.report.model import Report
from optkit.tasks.base import open_task

HERE = Path(__file__).parent
NAMES = ["torch", "onnxruntime-fp32", "onnxruntime-int8"]
SHAPES = ["1x32", "1x128"]
REPEATS = 5
PLAN = {"threads": 2}
LOOP = "import os; os.sched_setaffinity(0, {0})\nwhile True: pass"


def main(checkpoint: str, int8: str, *parts: str) -> None:
    file = HERE / "results" / "trust.json"
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch(checkpoint)
        context = make_context(open_task(source), None)
        fp32 = apply(make("export-onnx", {}), source, Path(scratch) / "fp32", context)
        models = dict(zip(NAMES, (checkpoint, str(fp32.path), int8)))
        result = json.loads(file.read_text(encoding="utf-8")) if parts else {"environment": describe(2)}
        for part in parts or ("together", "busy"):
            result[part] = {"together": together, "busy": busy}[part](models)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("together", "busy")}, indent=1))


def together(models: dict[str, str]) -> list[dict]:
    """Per model and shape: alone over together."""
    medians: dict[tuple[str, str, str], list[float]] = {}
    for repeat in range(REPEATS):
        runs = {"together": bench(models, repeat)}
        runs.update({name: bench({name: path}, repeat) for name, path in models.items()})
        for kind, report in runs.items():
            for row in report.rows:
                for x in row.latency:
                    key = (row.name, f"{x.batch}x{x.tokens}", "together" if kind == "together" else "alone")
                    medians.setdefault(key, []).extend(float(np.median(draw)) for draw in x.samples_ms)
    rows = []
    for name in models:
        for shape in SHAPES:
            alone, beside = (np.log(medians[name, shape, kind]) for kind in ("alone", "together"))
            bounds = stats.ttest_ind(alone, beside, equal_var=False).confidence_interval(0.95)
            rows.append(
                {
                    "model": name,
                    "shape": shape,
                    "alone_ms": round(float(np.exp(alone.mean())), 3),
                    "together_ms": round(float(np.exp(beside.mean())), 3),
                    "alone_over_together": round(float(np.exp(alone.mean() - beside.mean())), 4),
                    "low": round(float(np.exp(bounds.low)), 4),
                    "high": round(float(np.exp(bounds.high)), 4),
                }
            )
    return rows


def busy(models: dict[str, str]) -> list[dict]:
    """Speedups and doubts of a quiet run and of one beside a busy loop, twice each, in turn."""
    runs = []
    for repeat in range(2):
        for loop in (False, True):
            with stranger(LOOP) if loop else nullcontext():
                report = bench(models, repeat)
            speedups = {
                f"{row.name} {x.batch}x{x.tokens}": [round(v, 3) for v in (s.value, s.low, s.high)]
                for row in report.rows[1:]
                for x in row.latency
                if (s := x.speedup)
            }
            runs.append({"busy_loop": loop, "speedups": speedups, "doubts": report.doubts})
    return runs


@contextmanager
def stranger(code: str) -> Iterator[None]:
    """A Python process that is no descendant of this one."""
    shell = ["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, code]
    pid = int(subprocess.run(shell, check=True, capture_output=True, text=True).stdout)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


def bench(models: dict[str, str], seed: int) -> Report:
    return benchmark(list(models.values()), names=list(models), shapes=SHAPES, plan={**PLAN, "seed": seed})


if __name__ == "__main__":
    main(*sys.argv[1:])
