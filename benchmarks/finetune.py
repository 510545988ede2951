"""Fine-tuning all-MiniLM-L6-v2 with the default command, then INT8: what each score is, and what INT8 cost.

Run: python benchmarks/finetune.py [--steps N] [NAME ...]     (NAME: sst2, banking77, wnut17)
Writes benchmarks/results/finetune.json. With --steps a data set is cut to that many batches, which
proves the path and measures nothing: the result is printed and not written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optkit
from optkit.demo import encoder_folder

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
NAMES = ("sst2", "banking77", "wnut17")
FILES = ("train.jsonl", "validation.jsonl", "test.jsonl")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--steps", type=int, help="Batches per epoch; for a trial.")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.names:
        results[name] = measure(name, arguments.steps)
        print(json.dumps({name: results[name]}, indent=2), flush=True)
        if arguments.steps is None:
            file = HERE / "results" / "finetune.json"
            known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            file.write_text(json.dumps({**known, **results}, indent=2) + "\n", encoding="utf-8")


def measure(name: str, steps: int | None) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        data = copied(SHARED / name, Path(scratch), steps)
        out = HERE.parent / "models" / f"finetune-{name}"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "optkit", "finetune", str(encoder_folder()), "--data", str(data)]
        command += ["--out", str(out), "--quiet"]
        begun = time.monotonic()
        subprocess.run([*command, *(["--epochs", "1"] if steps else [])], check=True)
        seconds = time.monotonic() - begun
        notes = optkit.Artifact.open(out).lineage[-1]["notes"]
        small = out.with_name(f"{out.name}-int8")
        shutil.rmtree(small, ignore_errors=True)
        report = optkit.compress(out, optkit.Recipe.int8(), data=data, out=small, split="test")
        return {
            "metric": notes["metric"],
            "validation": notes["score"],
            "history": notes["history"],
            "table": notes["table"],
            "finetune_seconds": round(seconds, 1),
            "test": {row.name: row.score for row in report.rows},
            "test_change": {row.name: vars(row.drop) if row.drop else None for row in report.rows},
            "chosen": report.chosen,
            "environment": report.environment,
        }


def copied(source: Path, folder: Path, steps: int | None) -> Path:
    """The splits of `source`, cut to `steps` batches each where it is given."""
    for file in FILES:
        if (source / file).exists():
            lines = (source / file).read_text(encoding="utf-8").splitlines()
            (folder / file).write_text("\n".join(lines[: steps and steps * BATCH]) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
