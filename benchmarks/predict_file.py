"""`optkit predict --input --output` on many lines: memory, lines per second, and what a kill costs.

Run: python benchmarks/predict_file.py memory [LINES]     (1,000,000; the input is SST-2's phrases, repeated)
     python benchmarks/predict_file.py kill [LINES]       (100,000)
     python benchmarks/predict_file.py rate [LINES]       (40,000; on a quiet machine)
Each part writes its own key of benchmarks/results/predict_file.json. The model is models/sst2-int8, made by
benchmarks/sst2_int8.py. `rate` compares with the bare runtime: the model's own alone on the same batches,
tokens made beforehand and answers thrown away, so that what is missing to 100% is reading, tokenizing,
decoding and writing. Runs of the two alternate, each in a process of its own.

Written before the run: memory is flat after the first chunks (within 5% between the first and the last
fifth of the run); `optkit predict` reaches 85% of the bare runtime; after two kills the output has the
same bytes as one that nobody disturbed.

After (INT8 in OpenVINO): `memory` on a million lines, 1,644 of them a second: 647 MB in the median of the
first fifth, 658 in the last one's, 662 at the most. `rate` on 40,000: 91% of the bare runtime in the median
(77% to 91%), 93% of the runtime with its tokenizer. `kill` on 100,000: the same bytes, in both formats.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from optkit.benchmarking.environment import describe
from optkit.core.artifact import library_versions

HERE = Path(__file__).parent
PHRASES = HERE.parent.parent / "shared" / "data" / "sst2" / "train_glue_phrases.jsonl"
MODELS = HERE.parent / "models"
MODEL, FOLDER = MODELS / "sst2-int8", MODELS / "predict-file"
RESULT = HERE / "results" / "predict_file.json"
ROUNDS = 3


def main(part: str, lines: str | None = None) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if part == "bare":
        print(json.dumps(bare(int(lines or 0))))
        return
    defaults = {"memory": 1_000_000, "kill": 100_000, "rate": 40_000}
    count = int(lines or defaults[part])
    found = {"memory": memory, "kill": kill, "rate": rate}[part](count)
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result[part] = {"lines": count, **found, "environment": describe(), "versions": library_versions()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def source(lines: int) -> Path:
    """A file of `lines` phrases, the whole set again and again."""
    file = FOLDER / f"in-{lines}.jsonl"
    if not file.exists():
        phrases = PHRASES.read_bytes().splitlines(keepends=True)
        with file.open("wb") as stream:
            for i in range(lines):
                stream.write(phrases[i % len(phrases)])
    return file


def command(lines: int, output: Path, *flags: str) -> list[str]:
    where = ["--input", str(source(lines)), "--output", str(output), "--force"]
    return [sys.executable, "-m", "optkit", "predict", str(MODEL), *where, *flags]


def memory(lines: int) -> dict[str, Any]:
    """One undisturbed run into Parquet, its resident memory read every second."""
    output, samples = FOLDER / "memory.parquet", []
    output.unlink(missing_ok=True)
    begun = time.monotonic()
    process = subprocess.Popen(command(lines, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if (rss := resident(process.pid)) is not None:
            samples.append([round(time.monotonic() - begun, 1), rss])
        time.sleep(1)
    seconds = time.monotonic() - begun
    assert process.returncode == 0
    sizes = [rss for _, rss in samples]
    fifth = max(1, len(sizes) // 5)
    return {
        "seconds": round(seconds, 1),
        "lines_per_second": round(lines / seconds, 1),
        "input_bytes": source(lines).stat().st_size,
        "output_bytes": output.stat().st_size,
        "median_rss_first_fifth": statistics.median(sizes[:fifth]),
        "median_rss_last_fifth": statistics.median(sizes[-fifth:]),
        "peak_rss": max(sizes),
        "rss_samples": samples[:: max(1, len(samples) // 200)],
    }


def kill(lines: int) -> dict[str, Any]:
    """Killed (SIGKILL) after a third and after two thirds of the parts, and compared with a whole run."""
    digests, done_at_kill = {}, []
    for suffix in ("jsonl", "parquet"):
        whole, killed = FOLDER / f"whole.{suffix}", FOLDER / f"killed.{suffix}"
        for file in (whole, killed):
            file.unlink(missing_ok=True)
        subprocess.run(command(lines, whole, "--chunk", "2048"), check=True, capture_output=True)
        parts = killed.with_name(f".{killed.name}.parts")
        for share in (1 / 3, 2 / 3):
            process = subprocess.Popen(
                command(lines, killed, "--chunk", "2048"),
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            while process.poll() is None and len(list(parts.glob("part-*"))) < share * lines / 2048:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            done_at_kill.append(len(list(parts.glob("part-*"))))
        assert not killed.exists()
        last = subprocess.run(
            command(lines, killed, "--chunk", "2048"), check=True, capture_output=True, text=True
        )
        went_on = re.search(r"going on after ([\d,]+)", last.stderr)
        digests[suffix] = {
            "whole": hashlib.sha256(whole.read_bytes()).hexdigest(),
            "killed_twice": hashlib.sha256(killed.read_bytes()).hexdigest(),
            "went_on_after": went_on.group(1) if went_on else None,
        }
    return {
        "parts_at_each_kill": done_at_kill,
        "sha256": digests,
        "identical": all(d["whole"] == d["killed_twice"] for d in digests.values()),
    }


def rate(lines: int) -> dict[str, Any]:
    """Lines per second of the command and of the bare runtime, in turns."""
    found: dict[str, list[float]] = {"optkit": [], "bare": [], "bare_with_tokenizer": []}
    for _ in range(ROUNDS):
        output = FOLDER / "rate.parquet"
        done = subprocess.run(command(lines, output), check=True, capture_output=True, text=True)
        # The command's own clock: starting Python and loading the model are no part of either.
        said = re.search(r"in ([\d.]+) s", done.stdout)
        assert said
        found["optkit"].append(lines / float(said.group(1)))
        alone = subprocess.run(
            [sys.executable, __file__, "bare", str(lines)], check=True, capture_output=True, text=True
        )
        times = json.loads(alone.stdout)
        found["bare"].append(lines / times["runtime_s"])
        found["bare_with_tokenizer"].append(lines / (times["runtime_s"] + times["tokenizer_s"]))
    shares = [a / b for a, b in zip(found["optkit"], found["bare"])]
    return {
        "lines_per_second": found,
        "share_of_bare": {"each": shares, "median": statistics.median(shares)},
        "share_of_bare_with_tokenizer": statistics.median(
            a / b for a, b in zip(found["optkit"], found["bare_with_tokenizer"])
        ),
    }


def bare(lines: int) -> dict[str, float]:
    """Seconds of the tokenizer, and of the runtime on the very batches that `optkit predict` makes."""
    import optkit
    from optkit.serving.offline import CHUNK
    from optkit.serving.predictor import BATCH_SIZE, MAX_TOKENS

    texts = [json.loads(line)["text"] for line in source(lines).open(encoding="utf-8")]
    spent = {"tokenizer_s": 0.0, "runtime_s": 0.0}
    with optkit.load(MODEL) as predictor:
        for first in range(0, lines, CHUNK):
            begun = time.perf_counter()
            encoded = predictor.encode(texts[first : first + CHUNK])
            spent["tokenizer_s"] += time.perf_counter() - begun
            batches = [encoded.batch(part) for part in encoded.batches(BATCH_SIZE, MAX_TOKENS)]
            begun = time.perf_counter()
            for feeds in batches:
                predictor._session.infer(feeds)
            spent["runtime_s"] += time.perf_counter() - begun
    return spent


def resident(pid: int) -> int | None:
    """Resident memory of a process in bytes; None once it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE") or None


if __name__ == "__main__":
    main(*sys.argv[1:])
