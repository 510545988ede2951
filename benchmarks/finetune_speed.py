"""`optkit finetune` beside a plain PyTorch loop: examples per second and peak memory.

Run: python benchmarks/finetune_speed.py DATA
Writes benchmarks/results/finetune_speed.json; about 8 minutes. The loop is what one writes by hand:
shuffled batches of the same size, padded to the longest text in the batch, AdamW, linear schedule, the
same model and tokenizer. One epoch over EXAMPLES sentences each, in fresh processes, in turn, REPEATS
times; the evaluation and the saving that optkit adds at the end of an epoch are counted apart.

Prediction, written before the run: between 1.1 and 1.4, because batches grouped by length compute less
padding; without that the Trainer would lose a few percent to its bookkeeping.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from optkit.bench.environment import describe
from optkit.demo import encoder_folder

HERE = Path(__file__).parent
EXAMPLES, BATCH, REPEATS = 2048, 32, 4


def main(data: str) -> None:
    runs: dict[str, list[dict[str, float]]] = {"optkit": [], "loop": []}
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(data, "train.jsonl").read_text(encoding="utf-8").splitlines()
        small = Path(scratch, "data")
        small.mkdir()
        (small / "train.jsonl").write_text("\n".join(lines[:EXAMPLES]) + "\n", encoding="utf-8")
        (small / "validation.jsonl").write_text("\n".join(lines[-64:]) + "\n", encoding="utf-8")
        for repeat in range(REPEATS):
            for kind in runs:
                command = [sys.executable, __file__, kind, str(small), f"{scratch}/out-{repeat}"]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
                print(kind, runs[kind][-1], file=sys.stderr)
    logs = [np.log([r["examples_per_second"] for r in runs[kind]]) for kind in ("optkit", "loop")]
    bounds = stats.ttest_rel(*logs).confidence_interval(0.95)
    result = {
        "environment": describe(2),
        "examples": EXAMPLES,
        "batch": BATCH,
        "optkit_over_loop": round(float(np.exp(np.mean(logs[0] - logs[1]))), 3),
        "interval": [round(float(np.exp(x)), 3) for x in (bounds.low, bounds.high)],
        "runs": runs,
    }
    file = HERE / "results" / "finetune_speed.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "environment"}, indent=1))


def optkit(data: str, out: str) -> float:
    """Seconds from the first step to the last, read from the Trainer's own events."""
    import transformers

    from optkit.training.finetune import FinetuneSettings, finetune

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times["begun"] = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times["ended"] = time.perf_counter()

    times: dict[str, float] = {}
    plain = transformers.Trainer.__init__

    def watched(self: Any, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, **named)
        self.add_callback(Watch())

    transformers.Trainer.__init__ = watched
    finetune(encoder_folder(), data, out, FinetuneSettings(epochs=1, batch=BATCH))
    return times["ended"] - times["begun"]


def loop(data: str, out: str) -> float:
    """The loop that one writes by hand."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        get_linear_schedule_with_warmup,
    )

    torch.manual_seed(0)
    rows = [json.loads(line) for line in Path(data, "train.jsonl").read_text(encoding="utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(str(encoder_folder()))
    model = AutoModelForSequenceClassification.from_pretrained(
        str(encoder_folder()), num_labels=len(labels), dtype=torch.float32
    )
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=128)["input_ids"]
    examples = [(ids, labels.index(row["label"])) for ids, row in zip(encoded, rows)]

    def collate(batch: list) -> dict[str, torch.Tensor]:
        padded = tokenizer.pad({"input_ids": [ids for ids, _ in batch]}, return_tensors="pt")
        return {**padded, "labels": torch.tensor([label for _, label in batch])}

    loader = torch.utils.data.DataLoader(examples, batch_size=BATCH, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, len(loader) // 10, len(loader))
    model.train()
    begun = time.perf_counter()
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return time.perf_counter() - begun


def one(kind: str, data: str, out: str) -> None:
    import resource

    seconds = {"optkit": optkit, "loop": loop}[kind](data, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"examples_per_second": round(EXAMPLES / seconds, 2), "peak_rss_bytes": peak}))


if __name__ == "__main__":
    one(*sys.argv[1:]) if len(sys.argv) == 4 else main(*sys.argv[1:])
