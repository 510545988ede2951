"""Prune, distill, export, INT8 on a real fine-tuned checkpoint: what each share of the FLOPs costs.

Run: python benchmarks/prune_distill.py [SHARE ...]
Writes benchmarks/results/prune_distill.json after every cell; a cell that is in it is not run again, and a
killed run resumes in the middle of a cell. Drops are paired against the unpruned model in torch fp32, on
all of validation and test; validation chose the epoch, test is the report. The artifacts stay in
models/prune-distill-SHARE-STEP, for `optkit bench`.

Prediction, written before the first run: at 60% removed no loss on either split (the first experiment in
the design notes saw .8911 and .8929 with another implementation), at 75% a loss of about one point.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optkit.artifact import Artifact, library_versions, write_json
from optkit.bench.accuracy import paired_drop
from optkit.checkpoint import fetch
from optkit.data import Data
from optkit.passes.base import make
from optkit.process import Child
from optkit.session import infer_all, open_session
from optkit.task import Columns, open_task

HERE = Path(__file__).parent
ROOT = HERE.parent
CHECKPOINT = ROOT.parent / "shared" / "checkpoints" / "minilm-l6-sst2"
DATA = ROOT.parent / "shared" / "data" / "sst2"
FILE = HERE / "results" / "prune_distill.json"
SHARES = ("0.6", "0.75")
#: What each share is trained with.
DISTILL: dict[str, dict[str, Any]] = {"0.6": {}, "0.75": {"epochs": 6}}
THREADS = 2


def main(shares: list[str]) -> None:
    task, data = open_task(fetch(CHECKPOINT)), Data(str(DATA))
    splits = {name: task.read(data.split(name), Columns()) for name in ("validation", "test")}
    baseline = {name: outcomes(CHECKPOINT, task, labelled) for name, labelled in splits.items()}
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"cells": {}}
    result |= {
        "checkpoint": CHECKPOINT.name,
        "data": DATA.name,
        "threads": THREADS,
        "versions": library_versions(),
        "baseline": {name: float(right.mean()) for name, right in baseline.items()},
    }
    for share in shares or SHARES:
        source = CHECKPOINT
        for step, parameters in (
            ("prune", {"share": float(share)}),
            ("distill", DISTILL.get(share, {})),
            ("export-onnx", {}),
            ("quantize-dynamic", {}),
        ):
            folder, cell = ROOT / "models" / f"prune-distill-{share}-{step}", f"{share}:{step}"
            peak = None if folder.exists() else run(step, parameters, source, folder, task.name)
            source = folder
            if cell in result["cells"] or step == "export-onnx":
                continue
            made = Artifact.open(folder).lineage[-1]
            row: dict[str, Any] = {
                "seconds": made["seconds"],
                "peak_rss_bytes": peak,
                "parameters": made["parameters"],
                "size_bytes": Artifact.open(folder).size_bytes,
                "notes": made["notes"],
            }
            for name, labelled in splits.items():
                right = outcomes(folder, task, labelled)
                drop = paired_drop(baseline[name], right)
                row[name] = {
                    "accuracy": float(right.mean()),
                    "drop": asdict(drop),
                    "relative_drop": drop.drop / float(baseline[name].mean()),
                }
            result["cells"][cell] = row
            write_json(FILE, result)
            print(cell, {n: round(row[n]["accuracy"], 4) for n in splits}, f"{row['seconds']} s", flush=True)


def run(step: str, parameters: dict[str, Any], source: Path, folder: Path, task: str) -> int:
    """Run one pass in a process of its own; its peak memory in bytes."""
    folder.parent.mkdir(exist_ok=True)
    with Child("optkit.passes.worker", THREADS) as child:
        done = child.call(
            "run",
            listener=lambda event: print(event["text"], file=sys.stderr, flush=True),
            step=step,
            parameters=make(step, parameters).parameters(),
            source=str(source),
            final=str(folder),
            task=task,
            data=str(DATA),
            columns=asdict(Columns()),
            threads=THREADS,
            trust_remote_code=False,
            origin=str(CHECKPOINT),
        )
    return done["peak_rss_bytes"]


def outcomes(path: Path, task: Any, labelled: Any) -> Any:
    """Right or wrong per example, in the runtime of the artifact's format."""
    with open_session(Artifact.open(path), threads=THREADS) as session:
        outputs = infer_all(session, labelled.encoded, 32, 4096)
    return task.outcomes(task.answers(outputs), labelled.references)


if __name__ == "__main__":
    main(sys.argv[1:])
