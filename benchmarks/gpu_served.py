"""The shared checkpoint as optkit serves it on a GPU, every way that is there: accuracy and rate.

Part of benchmarks/gpu.py. Texts are read from JSON lines without `datasets`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optkit.benchmarking.targets import Chain
from optkit.core.artifact import Artifact
from optkit.passes.base import PassContext, apply, make
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Task, open_task

#: Sentences of the training split that calibrate and plan profiles.
TRAINING = 256


def served_rows(
    checkpoint: Path,
    data: Path,
    chains: list[Chain],
    limit: int | None,
    left_s: Callable[[], float],
    device: str,
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(rows, skipped). The first row is fp32 torch with attention written out; the rest is compared with it.

    Times are of all sentences, neighbours in length together, transfers included.
    """
    source = Artifact.open(checkpoint)
    task = open_task(source)
    texts, labels = read(data / "validation.jsonl", limit)
    training, _ = read(data / "train.jsonl", TRAINING)
    context = context_of(task, training)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    eager: Chain = [("serve-torch", {"device": device, "dtype": "fp32", "attention": "eager"})]
    with tempfile.TemporaryDirectory(prefix="optkit-gpu-") as scratch:
        for number, chain in enumerate([eager, *chains]):
            name = named(chain)
            if left_s() <= 0:
                skipped.append({"what": name, "reason": "the 8 minutes are used up"})
                continue
            try:
                artifact = made(source, chain, Path(scratch) / str(number), context)
                rows.append({"name": name, **answered(artifact, task, texts, labels)})
            except Exception as error:  # one way that fails must not cost the others
                skipped.append({"what": name, "reason": f"{type(error).__name__}: {error}"[:300]})
    for row in rows:
        same = sum(a == b for a, b in zip(row["answers"], rows[0]["answers"]))
        row["agreement"] = same / len(labels)
    for row in rows:
        del row["answers"]
    return rows, skipped


def read(file: Path, limit: int | None) -> tuple[list[str], list[str]]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:limit]]
    return [line["text"] for line in lines], [line["label"] for line in lines]


def context_of(task: Task, texts: list[str]) -> PassContext:
    """What passes are handed, from a list of texts."""

    def refuse(split: str) -> Any:
        raise NotImplementedError("no pass of this benchmark reads labels")

    return PassContext(
        task=task,
        encoded=lambda split, limit: task.encode(texts[:limit]),
        rows=refuse,
        labelled=refuse,
        progress=lambda text, fraction: None,
    )


def made(source: Artifact, chain: Chain, folder: Path, context: PassContext) -> Artifact:
    for i, (step, fields) in enumerate(chain):
        source = apply(make(step, fields), source, folder / str(i), context)
    return source


def answered(artifact: Artifact, task: Task, texts: list[str], labels: list[str]) -> dict[str, Any]:
    """Accuracy and sentences per second; the first pass, which compiles and captures, is not timed."""
    encoded = task.encode(texts)
    with open_session(artifact) as session:
        infer_all(session, encoded, 32, 4096)
        session.synchronize()
        begun = time.perf_counter()
        outputs = infer_all(session, encoded, 32, 4096)
        session.synchronize()
        seconds = time.perf_counter() - begun
    answers = [answer.label for answer in task.decode(outputs)]
    right = sum(a == b for a, b in zip(answers, labels))
    return {
        "accuracy": right / len(labels),
        "sentences_per_s": len(texts) / seconds,
        "precision": artifact.precision,
        "format": artifact.format,
        "answers": answers,
    }


def named(chain: Chain) -> str:
    """The last pass with its fields, and the casts before it."""
    parts = []
    for step, fields in chain:
        shown = [f"{v}" if k != "compile" else "compiled" for k, v in fields.items() if v and k != "device"]
        parts.append(f"{step}({', '.join(shown)})" if shown else step)
    return " → ".join(parts)
