"""`optkit search` on a real fine-tuned checkpoint: eight trials without training, then the front confirmed.

Run: python benchmarks/search.py [--trials N]     the trials (any load), then
     python benchmarks/search.py --confirm        on a quiet machine: the front side by side once more
Writes benchmarks/results/search.json. SST-2, all of validation to choose; the chosen model and the unpruned
one on all of test, paired. Trials of a loaded machine only lead the search; the figures are of --confirm.

Prediction, written before the first run: more than half of the trials with 40% or more removed are stopped
early; the chosen model is pruned by 10 to 30% and quantized, 5 to 7 times as fast as torch in fp32 on the
data's own lengths, against 5.3 times for INT8 alone (README); its drop on test is within 1.5 points.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from optkit.benchmarking.accuracy import paired_drop
from optkit.core.artifact import Artifact
from optkit.core.files import write_json
from optkit.data.dataset import Data
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
CHECKPOINT, DATA = SHARED / "checkpoints" / "minilm-l6-sst2", SHARED / "data" / "sst2"
OUT = HERE.parent / "models" / "search-sst2"
SPACE = (
    "prune.share=uniform(0,0.5,0.1)",
    "prune.criterion=kprune,fisher",
    "quantize=none,quantize-dynamic,quantize-static,open-vino-int8",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--confirm", action="store_true", help="All trials are finished: measure and write.")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "optkit", "search", str(CHECKPOINT), "--data", str(DATA)]
    command += ["--out", str(OUT), "--max-drop", "1%", "--objective", "latency", "--shapes", "1xdata,1x128"]
    command += ["--trials", str(arguments.trials), "--threads", "2", "--rounds", "3"]
    command += [word for form in SPACE for word in ("--space", form)]
    done = subprocess.run(command)
    if not arguments.confirm:
        sys.exit(done.returncode)
    study = json.loads((OUT / "study.json").read_text(encoding="utf-8"))
    report = json.loads((OUT / "report.json").read_text(encoding="utf-8"))
    rows = [
        {key: row[key] for key in ("name", "verdict", "reasons", "score", "drop", "speedup", "size_bytes")}
        | {"p50_ms": {f"{x['batch']}x{x['tokens']}": x["p50_ms"] for x in row["latency"]}}
        | {"speedups": {f"{x['batch']}x{x['tokens']}": x["speedup"] for x in row["latency"]}}
        for row in report["rows"]
    ]
    write_json(
        HERE / "results" / "search.json",
        {
            "command": ["optkit", *command[3:]],
            "exit_code": done.returncode,
            "chosen": report["chosen"],
            "recipe": report["recipe"],
            "rows": rows,
            "doubts": report["doubts"],
            "best": study["best"],
            "trials": study["trials"],
            "importance": study["importance"],
            "test": on_test(),
            "environment": report["environment"],
        },
    )


def on_test() -> dict:
    """Accuracy of the checkpoint and of what was chosen on the test split, which no trial saw."""
    task = open_task(Artifact.open(CHECKPOINT))
    labelled = task.read(Data(str(DATA)).split("test"), Columns())
    right = {}
    for name, path in (("checkpoint", CHECKPOINT), ("chosen", OUT)):
        with open_session(Artifact.open(path), threads=2) as session:
            outputs = infer_all(session, labelled.encoded, 32, 4096)
        right[name] = task.outcomes(task.answers(outputs), labelled.references)
    drop = paired_drop(right["checkpoint"], right["chosen"])
    return {**{name: float(x.mean()) for name, x in right.items()}, "drop": asdict(drop)}


if __name__ == "__main__":
    main()
