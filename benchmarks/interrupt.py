"""Ctrl-C and kill -9 in the middle of the long commands: does the same command resume, to the same result?

Run: python benchmarks/interrupt.py [COMMAND ...]      of preprocess, finetune, distill, compress
Writes benchmarks/results/interrupt.json after every command. Each runs whole once, then twice more and is
ended in its middle, by SIGINT and by SIGKILL, and given again. For training "the middle" is a moment after
the first checkpoint, for `preprocess` when some shards are whole. SST-2 and its checkpoint, 320 sentences of
training and of validation; `preprocess` reads GLUE's 67,349 phrases. Nothing is timed for comparison; a busy
machine does no harm.

Prediction, written before the first run: all eight end with the same bytes (compress: the same weights of the
distilled student and the same scores), leave nothing behind, and Ctrl-C exits with 130.
Found: so it is for preprocess, finetune and distill (kill -9 left a folder of the killed child's, which the
next run deletes once that child is gone). compress: the same weights and the same scores, but for trials of
the accuracy-aware search, which sorts multiplies by measured times.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optkit.benchmarking.environment import describe
from optkit.compression.demo import encoder_folder
from optkit.core.artifact import Artifact, library_versions
from optkit.core.files import write_json
from optkit.data.dataset import Data
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
CHECKPOINT, SST2 = SHARED / "checkpoints" / "minilm-l6-sst2", SHARED / "data" / "sst2"
ROOT = HERE.parent / "models" / "interrupt"
FILE = HERE / "results" / "interrupt.json"
EXAMPLES = 320
SIGNALS = {"SIGINT": signal.SIGINT, "SIGKILL": signal.SIGKILL}


def main(names: list[str]) -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    data, student = ROOT / "data", ROOT / "student"
    copy_data(data)
    make_student(student, data)
    train = ["--data", str(data), "--epochs", "4"]
    commands: dict[str, tuple[list[str], Callable[[Path], bool]]] = {
        "preprocess": (
            [
                "preprocess",
                str(SST2 / "train_glue_phrases.jsonl"),
                "--drop-duplicates",
                "--segment",
                "sentences",
            ],
            lambda folder: len(list(folder.rglob("*.jsonl"))) >= 20,
        ),
        "finetune": (["finetune", str(encoder_folder()), *train], has_checkpoint),
        "distill": (["distill", str(student), "--teacher", str(CHECKPOINT), *train], has_checkpoint),
        "compress": (
            ["compress", str(CHECKPOINT), "--prune", "0.6", "--distill", "--int8", "--data", str(data)],
            has_checkpoint,
        ),
    }
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    result |= {"examples": EXAMPLES, "environment": describe(os.cpu_count() or 1)}
    result |= {"versions": library_versions()}
    for name in names or commands:
        words, middle = commands[name]
        whole = run(words, ROOT / name / "whole")
        row: dict[str, Any] = {"command": ["optkit", *map(shown, words)], "whole": whole}
        for how, number in SIGNALS.items():
            found = row[how] = interrupted(words, ROOT / name / how, number, middle)
            found["same_result"] = found["result"] == whole["result"]
            print(name, how, {k: v for k, v in found.items() if k != "result"}, flush=True)
        result.setdefault("commands", {})[name] = row
        write_json(FILE, result)


def run(words: list[str], folder: Path) -> dict[str, Any]:
    """Run to the end in an empty `folder`; what came out, and what else lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    done = subprocess.run(command(words, folder), capture_output=True, text=True)
    if done.returncode not in (0, 3):  # 3: the gate said no, which is a result too
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "exit_code": done.returncode,
        "result": fingerprint(folder / "out"),
        "left_behind": left_behind(folder),
    }


def interrupted(
    words: list[str], folder: Path, number: signal.Signals, middle: Callable[[Path], bool]
) -> dict[str, Any]:
    """Start, wait for the middle, send the signal; then the same command again, to its end."""
    folder.mkdir(parents=True)
    begun = time.monotonic()
    process = subprocess.Popen(command(words, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not middle(folder):
        time.sleep(0.05)
    time.sleep(0.5)  # not at the very moment of a write
    assert process.poll() is None, "it ended before its middle was seen"
    process.send_signal(number)
    code = process.wait()
    seconds = round(time.monotonic() - begun, 1)
    there = (folder / "out").exists()
    again = run(words, folder)
    return {"ended_with": code, "after_s": seconds, "output_was_there": there, **again}


def command(words: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "optkit", *words, "--out", str(folder / "out")]


def has_checkpoint(folder: Path) -> bool:
    return any(folder.rglob("trainer_state.json"))


def left_behind(folder: Path) -> list[str]:
    """What lies beside the result; the work folder of `compress` is meant to stay."""
    return sorted(p.name for p in folder.iterdir() if p.name != "out")


def fingerprint(out: Path) -> dict[str, Any]:
    """What must be equal: the bytes of weights and rows; of a compressed model also its scores."""
    found: dict[str, Any] = {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()[:16]
        for p in sorted(out.rglob("*"))
        if p.suffix in (".safetensors", ".jsonl") and "tensorboard" not in p.parts
    }
    if (out / "report.json").exists():
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        found["scores"] = {row["name"]: row["score"] for row in report["rows"]}
    if (out / "optkit.json").exists():
        for step in Artifact.open(out).lineage:
            if "history" in step["notes"]:
                found[f"history of {step['pass']}"] = step["notes"]["history"]
    return found


def copy_data(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        lines = (SST2 / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()[:EXAMPLES]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_student(folder: Path, data: Path) -> None:
    source = Artifact.open(CHECKPOINT)
    step = make("prune", {"share": 0.6, "criterion": "magnitude", "refit": "none"})
    apply(step, source, folder, make_context(open_task(source), Data(str(data))))


def shown(word: str) -> str:
    """A word of a command without this machine's folders."""
    return Path(word).name if "/" in word else word


if __name__ == "__main__":
    main(sys.argv[1:])
