"""kill -9 at random moments: does the same command, given again, end with the same bytes and leave nothing?

Run: python benchmarks/kills.py [--kills N] [VERB ...]
Writes benchmarks/results/kills.json after every verb: preprocess, finetune, tune, compress, search, predict,
package. Each runs whole once; then it is begun anew and its process is killed (SIGKILL, the parent alone)
after a random share of that time, or, every third time, a few milliseconds after its output begins to
appear, with --force over an older output; then the same command is given again. A tiny model with random
weights: what is tested is files, not models. Nothing is timed; a busy machine does no harm.

Prediction, written before the first run: every rerun ends with the exit code and the bytes of the
undisturbed run (weights, graphs, rows; reports hold times and dates), and nothing lies beside the output but
a study's own folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples import tiny
from optkit.core.artifact import library_versions
from optkit.core.files import write_json

FILE = Path(__file__).parent / "results" / "kills.json"
#: Files that must have the same bytes: no reports, which hold times and dates.
SAME = (".safetensors", ".onnx", ".jsonl", ".json", ".txt", ".zip")
TIMED = ("optkit.json", "report.json", "study.json", "preprocessing.json", "trainer_state.json")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verbs", nargs="*")
    parser.add_argument("--kills", type=int, default=6, help="kills of each verb")
    given = parser.parse_args()
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"verbs": {}}
    result["versions"] = library_versions()
    with tempfile.TemporaryDirectory(prefix="optkit-kills-") as scratch:
        root = Path(scratch)
        inputs(root)
        for verb, words in commands(root).items():
            if given.verbs and verb not in given.verbs:
                continue
            result["verbs"][verb] = campaign(verb, words, root, given.kills)
            write_json(FILE, result)


def campaign(verb: str, words: list[str], root: Path, kills: int) -> dict[str, Any]:
    """The undisturbed run, then `kills` runs that are killed and given again."""
    folder = root / verb
    begun = time.monotonic()
    whole = finish(words, folder / "whole")
    seconds = time.monotonic() - begun
    rng, runs = random.Random(verb), []
    for i in range(kills):
        place = folder / f"kill-{i}"
        swap = i % 3 == 2
        if swap:  # over an output that is there
            place.mkdir(parents=True)
            older = folder / "whole" / target(words)
            copy = shutil.copytree if older.is_dir() else shutil.copyfile
            copy(older, place / target(words))
        forced = [*words, "--force"] if swap else words
        after = killed(forced, place, rng.uniform(0.05, 1.0) * seconds, swap, rng)
        again = finish(forced, place)
        runs.append(
            {
                "during": "the swap of --force" if swap else "the work",
                **after,
                "exit_code": again["exit_code"],
                "same_bytes": again["files"] == whole["files"],
                "left_behind": again["left_behind"],
            }
        )
        print(verb, runs[-1], flush=True)
        shutil.rmtree(place)
    return {"seconds": round(seconds, 1), "exit_code": whole["exit_code"], "kills": runs}


def killed(words: list[str], place: Path, after_s: float, swap: bool, rng: random.Random) -> dict[str, Any]:
    """Start and kill; whether it had ended before."""
    place.mkdir(parents=True, exist_ok=True)
    log = place.parent / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command(words, place), stdout=stream, stderr=stream)
    begun = time.monotonic()
    while process.poll() is None:
        lasted = time.monotonic() - begun
        if swap and any(place.glob(f".{target(words)}.partial-*")):
            time.sleep(rng.uniform(0.0, 0.03))
            break
        if lasted > (10 * after_s if swap else after_s):
            break
        time.sleep(0.001 if swap else 0.01)
    ended = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return {"after_s": round(time.monotonic() - begun, 2), "had_ended": ended}


def finish(words: list[str], place: Path) -> dict[str, Any]:
    """Run to the end; what came out, and what else lies there. A run that had ended refuses to run again."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command(words, place), capture_output=True, text=True)
    code = done.returncode
    if code == 6 and "exists" in done.stderr:
        code = 0
    if code not in (0, 3):
        print(done.stderr[-2000:], file=sys.stderr)
    out = place / target(words)
    names = (out, place / f"{target(words)}.study")
    return {
        "exit_code": code,
        "files": fingerprint(out),
        "left_behind": sorted(p.name for p in place.iterdir() if p not in names),
    }


def fingerprint(out: Path) -> dict[str, str]:
    files = [out] if out.is_file() else sorted(out.rglob("*"))
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()[:16]
        for p in files
        if p.suffix in SAME and p.name not in TIMED and "tensorboard" not in p.parts
    }


def command(words: list[str], place: Path) -> list[str]:
    return [sys.executable, "-m", "optkit", *(w.replace("OUT", str(place / target(words))) for w in words)]


def target(words: list[str]) -> str:
    return "out.jsonl" if words[0] == "predict" else "out"


def commands(root: Path) -> dict[str, list[str]]:
    model, data = str(root / "model"), str(root / "data")
    quick = ["--rounds", "1", "--processes", "1", "--shapes", "1xdata", "--threads", "1"]
    training = ["--data", data, "--out", "OUT", "--epochs", "3", "--batch", "8"]
    return {
        "preprocess": ["preprocess", str(root / "raw"), "--out", "OUT", "--drop-duplicates"],
        "finetune": ["finetune", model, *training],
        "tune": [
            *("tune", model, "--data", data, "--out", "OUT", "--trials", "2"),
            *("--space", "learning_rate=1e-4,1e-3", "--space", "epochs=1,2"),
        ],
        "compress": [
            *("compress", model, "--recipe", str(root / "recipe.toml"), "--data", data, "--out", "OUT"),
            *quick,
        ],
        "search": [
            *("search", model, "--data", data, "--out", "OUT", "--trials", "1", "--objective", "size"),
            # One candidate: between two, measured times decide, which a busy machine changes.
            *("--space", "quantize=quantize-dynamic", "--max-drop", "0.9", *quick),
        ],
        "predict": [
            *("predict", str(root / "artifact"), "--input", str(root / "big.jsonl"), "--output", "OUT"),
            *("--chunk", "200"),
        ],
        "package": ["package", str(root / "artifact"), "--format", "zip", "--out", "OUT"],
    }


def inputs(root: Path) -> None:
    """A tiny checkpoint, an artifact of it, and data."""
    tiny.checkpoint(root / "model")
    for split, count in (("data/train", 64), ("data/validation", 40), ("raw/train", 40_000), ("big", 20_000)):
        rows(root / f"{split}.jsonl", count)
    # One chain: of several, the machine's noise would choose.
    recipe = '[[steps]]\npass = "export-onnx"\n[[steps]]\npass = "quantize-static"\n'
    (root / "recipe.toml").write_text(recipe, encoding="utf-8")
    words = [w.replace("OUT", str(root / "artifact")) for w in commands(root)["compress"]]
    done = subprocess.run([sys.executable, "-m", "optkit", *words, "--quiet"], stdout=subprocess.DEVNULL)
    assert done.returncode in (0, 3), done.returncode


def rows(file: Path, count: int) -> None:
    file.parent.mkdir(exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in tiny.sentences(count, seed=count)]
    file.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
