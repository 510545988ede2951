"""`optkit finetune` in two processes under torchrun beside one: examples per second, and the loss curves.

Run: python benchmarks/two_processes.py DATA
Writes benchmarks/results/two_processes.json; about 3 minutes. The same EXAMPLES sentences, the same batch
over all processes, no dropout (its draws differ per process): one process and two, of one thread each, in
fresh processes, in turn, REPEATS times. Gloo on the CPU. Seconds are those of the clock: on a machine that
does other work the two wait for each other more than one waits for itself.

Prediction, written before the run: two processes reach 1.4 times the examples per second of one, because
90 MB of gradients are added up after every step; the losses agree to 1e-3 at every logged step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from finetune_speed import ratio, timed_finetune

from optkit.benchmarking.environment import describe
from optkit.compression.demo import encoder_folder
from optkit.core.artifact import copy_side_files
from optkit.core.files import read_json, write_json
from optkit.errors import DataError
from optkit.training.trainer.settings import FinetuneSettings

FILE = Path(__file__).parent / "results" / "two_processes.json"
EXAMPLES, BATCH, REPEATS = 960, 32, 2
#: Name → processes.
RUNS = {"one process": 1, "two processes": 2}


def main(data: str) -> None:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(data, "train.jsonl").read_text(encoding="utf-8").splitlines()
        small, model = Path(scratch, "data"), without_dropout(Path(scratch, "model"))
        small.mkdir()
        for split, part in (("train", lines[:EXAMPLES]), ("validation", lines[-65:])):
            (small / f"{split}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
        for repeat in range(REPEATS):
            for name, processes in RUNS.items():
                out = Path(scratch, f"{name}-{repeat}")
                command = [sys.executable]
                if processes > 1:
                    command += [
                        "-m",
                        "torch.distributed.run",
                        "--standalone",
                        "--nproc-per-node",
                        str(processes),
                    ]
                command += [__file__, "run", str(model), str(small), str(out)]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
                runs[name].append(read_json(out.with_suffix(".json"), DataError))
                print(name, runs[name][-1]["examples_per_second"], file=sys.stderr)
    curves = {name: [entry["loss"] for entry in found[0]["losses"]] for name, found in runs.items()}
    first, scores = curves["one process"], {name: found[0]["score"] for name, found in runs.items()}
    write_json(
        FILE,
        {
            "environment": describe(2),
            "examples": EXAMPLES,
            "batch": BATCH,
            "load_average": os.getloadavg(),
            "two_processes_over_one": ratio(runs["two processes"], runs["one process"]),
            "largest_difference_of_losses": max(
                abs(a - b) for curve in curves.values() for a, b in zip(first, curve)
            ),
            "losses": curves,
            "scores": scores,
            "examples_per_second": {n: [run["examples_per_second"] for run in r] for n, r in runs.items()},
        },
    )
    print(json.dumps({k: v for k, v in read_json(FILE, DataError).items() if k != "environment"}, indent=1))


def without_dropout(folder: Path) -> Path:
    source = encoder_folder()
    folder.mkdir()
    copy_side_files(source, folder)
    config = read_json(source / "config.json", DataError)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_json(folder / "config.json", {**config, **still})
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    return folder


def run(model: str, data: str, out: str) -> None:
    """One training run, in every process of it; seconds of the clock from the first step to the last."""
    settings = FinetuneSettings(epochs=1, batch=BATCH)
    seconds, made = timed_finetune(model, data, out, settings, time.perf_counter)
    notes = made.lineage[-1]["notes"]
    if int(os.environ.get("RANK", 0)) == 0:
        rate = round(EXAMPLES / seconds, 2)
        found = {"examples_per_second": rate, "losses": notes["losses"], "score": notes["score"]}
        write_json(Path(out).with_suffix(".json"), found)


if __name__ == "__main__":
    run(*sys.argv[2:]) if sys.argv[1] == "run" else main(*sys.argv[1:])
