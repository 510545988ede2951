"""`optkit tune` on SST-2 from all-MiniLM-L6-v2, killed with kill -9 in the middle: does it resume?

Run: python benchmarks/tune.py [--trials N] [--examples N]
Writes benchmarks/results/tune.json. The first EXAMPLES sentences of training and of validation (SST-2's order
is mixed) to train and to choose, all of validation and test to report. The command is killed after the first
epoch of its third trial and given again; a second study, which nobody disturbs, must end alike. Beside the
best trial stands a run of `optkit finetune` with its defaults on the same data.

Prediction, written before the first run (6 trials, 300 sentences): the resumed study ends with 6 finished
trials, one or none of them stopped early; a high learning rate wins; on validation the best trial is one to
three points above the defaults, whose 30 steps are few, and on test about as much.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optkit.benchmarking.accuracy import paired_drop
from optkit.benchmarking.environment import describe
from optkit.compression.demo import encoder_folder
from optkit.core.artifact import Artifact, library_versions
from optkit.core.files import write_json
from optkit.data.dataset import Data
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
SOURCE = HERE.parent.parent / "shared" / "data" / "sst2"
SPACE = ("learning_rate=loguniform(2e-5,1e-3)", "batch=16,32,64", "epochs=int(1,3)", "warmup=uniform(0,0.2)")
KILLED = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--examples", type=int, default=300)
    arguments = parser.parse_args()
    MODELS.mkdir(exist_ok=True)
    data = MODELS / f"tune-data-{arguments.examples}"
    copy_data(data, arguments.examples)
    optkit = [sys.executable, "-m", "optkit"]
    given = [str(encoder_folder()), "--data", str(data)]
    out, plain = MODELS / "tune-sst2", MODELS / "tune-sst2-defaults"
    whole = MODELS / "tune-sst2-whole"
    for folder in (out, whole, plain, *(x.with_name(f"{x.name}.study") for x in (out, whole))):
        shutil.rmtree(folder, ignore_errors=True)
    rest = ["--trials", str(arguments.trials), *(word for form in SPACE for word in ("--space", form))]
    tune = [*optkit, "tune", *given, "--out", str(out), *rest]
    begun = time.monotonic()
    first = subprocess.Popen(tune, stderr=subprocess.PIPE, text=True)
    heard = kill_in_trial(first, KILLED)
    resumed = subprocess.run(tune, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - begun
    print(resumed.stderr, resumed.stdout, sep="\n", flush=True)
    subprocess.run([*optkit, "tune", *given, "--out", str(whole), *rest], check=True)
    subprocess.run([*optkit, "finetune", *given, "--out", str(plain), "--quiet"], check=True)
    study = json.loads((out / "study.json").read_text(encoding="utf-8"))
    states = [trial["state"] for trial in study["trials"]]
    write_json(
        HERE / "results" / "tune.json",
        {
            "command": ["optkit", *tune[3:]],
            "examples": arguments.examples,
            "killed": {"trial": KILLED, "heard_before": heard, "heard_after": resumed.stderr.splitlines()},
            "same_as_undisturbed": told(out) == told(whole),
            "finished": sum(state in ("complete", "stopped early", "failed") for state in states),
            "states": {state: states.count(state) for state in dict.fromkeys(states)},
            "trials": study["trials"],
            "best": study["best"],
            "importance": study["importance"],
            "seconds": round(seconds, 1),
            "scores": compare(plain, out),
            "environment": describe(os.cpu_count() or 1),
            "versions": library_versions(),
        },
    )


def told(out: Path) -> list[Any]:
    """What must be equal: every trial's parameters and scores, and the weights of the best."""
    study = json.loads((out / "study.json").read_text(encoding="utf-8"))
    trials = [
        [trial[key] for key in ("number", "state", "parameters", "values", "curve")]
        for trial in study["trials"]
    ]
    return [trials, study["best"], Artifact.open(out).fingerprint()]


def kill_in_trial(process: subprocess.Popen, number: int) -> list[str]:
    """Read what the command says until trial `number` has finished an epoch, then kill -9."""
    heard = []
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", flush=True)
        heard.append(line.strip())
        if f"trial {number}, epoch 1" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    return heard


def copy_data(folder: Path, examples: int) -> None:
    folder.mkdir(exist_ok=True)
    for split in ("train", "validation", "test"):
        lines = (SOURCE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = lines if split == "test" else lines[:examples]
        (folder / f"{split}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")


def compare(defaults: Path, tuned: Path) -> dict[str, Any]:
    """Accuracy of both on validation and test, and what tuning gained, paired, with its 95% interval."""
    found: dict[str, Any] = {}
    task = open_task(Artifact.open(tuned))
    for split in ("validation", "test"):
        labelled = task.read(Data(str(SOURCE)).split(split), Columns())
        right = {}
        for name, path in (("defaults", defaults), ("tuned", tuned)):
            with open_session(Artifact.open(path)) as session:
                outputs = infer_all(session, labelled.encoded, 32, 4096)
            right[name] = task.outcomes(task.answers(outputs), labelled.references)
        found[split] = {name: float(x.mean()) for name, x in right.items()}
        found[split]["gain"] = asdict(paired_drop(right["tuned"], right["defaults"]))
    return found


if __name__ == "__main__":
    main()
