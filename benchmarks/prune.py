"""One-shot pruning on a real fine-tuned checkpoint: accuracy against the share removed, per criterion.

Run: python benchmarks/prune.py [CRITERION:SHARE ...]
Writes benchmarks/results/prune_oneshot.json after every cell; a cell that is in it is not run again.
Drops are against the unpruned model in the same runtime (torch, fp32), paired, with 95% intervals.
Retraining plays no part: seconds and peak memory are the whole pass's, in a process of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optkit.benchmarking.accuracy import paired_drop
from optkit.core.artifact import Artifact, library_versions
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.data.dataset import Data
from optkit.models.checkpoint import fetch
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
CHECKPOINT, DATA = SHARED / "checkpoints" / "minilm-l6-sst2", SHARED / "data" / "sst2"
FILE = HERE / "results" / "prune_oneshot.json"
CRITERIA = ("kprune", "fisher", "taylor", "magnitude", "random")
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6)
THREADS = 2


def main(cells: list[str]) -> None:
    task, data = open_task(fetch(CHECKPOINT)), Data(str(DATA))
    splits = {name: task.read(data.split(name), Columns()) for name in ("validation", "test")}
    baseline = {name: outcomes(CHECKPOINT, task, labelled) for name, labelled in splits.items()}
    result = json.loads(FILE.read_text()) if FILE.exists() else {"cells": {}}
    result |= {
        "checkpoint": CHECKPOINT.name,
        "data": DATA.name,
        "threads": THREADS,
        "versions": library_versions(),
        "baseline": {name: float(right.mean()) for name, right in baseline.items()},
    }
    wanted = cells or [f"{criterion}:{share}" for share in SHARES for criterion in CRITERIA]
    for cell in wanted:
        if cell in result["cells"]:
            continue
        criterion, share = cell.split(":")
        with tempfile.TemporaryDirectory() as folder:
            made, peak = pruned(criterion, float(share), Path(folder) / "pruned", task.name)
            step = made.lineage[-1]
            row: dict[str, Any] = {
                "seconds": step["seconds"],
                "peak_rss_bytes": peak,
                "parameters": step["parameters"],
                "notes": step["notes"],
            }
            for name, labelled in splits.items():
                right = outcomes(made.path, task, labelled)
                drop = paired_drop(baseline[name], right)
                row[name] = {
                    "accuracy": float(right.mean()),
                    "drop": asdict(drop),
                    "relative_drop": drop.drop / float(baseline[name].mean()),
                }
        result["cells"][cell] = row
        write_json(FILE, result)
        print(cell, {n: round(row[n]["accuracy"], 4) for n in splits}, f"{row['seconds']} s", flush=True)


def pruned(criterion: str, share: float, folder: Path, task: str) -> tuple[Artifact, int]:
    """The checkpoint after the pass, and the pass's peak memory in bytes."""
    with Child("optkit.passes.worker", THREADS) as child:
        done = child.call(
            "run",
            step="prune",
            parameters={"share": share, "criterion": criterion},
            source=str(CHECKPOINT),
            final=str(folder),
            task=task,
            data=str(DATA),
            columns=asdict(Columns()),
            threads=THREADS,
            trust_remote_code=False,
        )
    return Artifact.open(folder), done["peak_rss_bytes"]


def outcomes(path: Path, task: Any, labelled: Any) -> Any:
    """Right or wrong per example, in torch."""
    with open_session(Artifact.open(path), "torch", threads=THREADS) as session:
        outputs = infer_all(session, labelled.encoded, 32, 4096)
    return task.outcomes(task.answers(outputs), labelled.references)


if __name__ == "__main__":
    main(sys.argv[1:])
