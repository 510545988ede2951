"""What the FLOPs budget buys: INT8 of pruned models beside torch eager fp32, side by side.

Run: python benchmarks/prune_speed.py [DATA] [SHARE ...]
Takes the pruned checkpoints that `prune_distill.py` left in models/, makes INT8 of them for ONNX Runtime and
OpenVINO (`--make` stops there), and measures all in one interleaved run, each alone in a process: at 1 x 128
tokens, on the data's own lengths, and from text to label ("1xtext"): there torch stands behind transformers'
own tokenizer, as its users have it, and the INT8 models behind optkit's. Writes
benchmarks/results/prune_speed.json, one entry per data set. Times depend on the shape and not on what
distillation does to the weights; scores are in prune_distill.json.

Prediction, written before the first run: at 60% removed 7 to 10 times at 1 x 128 (the shape measured that in
the design notes), at 75% 10 to 12 times; on the data's own lengths, about 25 tokens, 6 to 9 times.
Found at 75%: OpenVINO 10.8 times at 1 x 128, as predicted; ONNX Runtime 10.6 times on the data's own
lengths, more than predicted (earlier runs: 11.3 and 12.4). At 85% and 90%: 14.7 and 17.9 times at 1 x 128 in
OpenVINO, 13.0 and 14.8 times on own lengths in ONNX Runtime.
Prediction before the first run with texts: 10 to 13 times from text to label at 75% in ONNX Runtime, for the
tokenizer's 0.1 ms weighs more beside a faster model, but transformers' own costs torch several times that.
Found: 9.3 times (10.5 in an earlier run); reading a text costs ONNX Runtime's model a fifth of its
time, and torch's nearly nothing.
(A first run said 14.2: transformers had loaded the checkpoint in the fp16 of its file. Now it is told fp32.)
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prune_distill import CHECKPOINTS, HERE, ROOT, SHARED, THREADS

from optkit.benchmarking.batches import Item
from optkit.benchmarking.environment import describe
from optkit.benchmarking.latency import measure
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.summaries import latencies
from optkit.benchmarking.worker import Worker
from optkit.core.artifact import Artifact, library_versions
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.data.dataset import Data
from optkit.events import Event, Note
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import Columns, open_task

FILE = HERE / "results" / "prune_speed.json"
SHAPES = ("1x128", "1xdata", "1xtext")
STEPS = {"onnxruntime": "quantize-dynamic", "openvino": "open-vino-int8"}
EXAMPLES = 200


def main(name: str = "sst2", *words: str) -> None:
    shares = [word for word in words if word != "--make"]
    models = {"torch-fp32": CHECKPOINTS[name]}
    for share in shares or ("0.6", "0.75"):
        pruned = ROOT / "models" / f"prune-distill-{name}-{share}-prune"
        if pruned.exists():
            models |= made(pruned, name, share)
    if "--make" in words:
        return
    task = open_task(Artifact.open(CHECKPOINTS[name]))
    labelled = task.read(Data(str(SHARED / "data" / name)).split("validation", EXAMPLES), Columns())
    with TemporaryDirectory() as folder:
        encoded, texts = Path(folder) / "examples.npz", Path(folder) / "texts.json"
        labelled.encoded.save(encoded)
        texts.write_text(json.dumps(labelled.sources), encoding="utf-8")
        measured = measure(
            [Candidate(model, str(path), texts=str(texts)) for model, path in models.items()],
            encoded,
            Plan(tuple(Shape.parse(shape) for shape in SHAPES), threads=THREADS),
            tell,
            spawn=lambda threads: Child("prune_speed", threads),
        )
    first = measured["torch-fp32"]
    rows = []
    for model in models:
        if measured[model].error:
            raise SystemExit(f"{model}: {measured[model].error}")
        row: dict[str, Any] = {"name": model, "shapes": {}}
        for x in latencies(measured[model], None if model == "torch-fp32" else first, labelled.encoded):
            shape = f"{x.batch}x{x.tokens}"
            factor = asdict(x.speedup) if x.speedup else {"value": 1.0, "low": 1.0, "high": 1.0}
            samples = [len(draw) for draw in x.samples_ms]
            row["shapes"][shape] = {
                "p50_ms": x.p50_ms,
                "p90_ms": x.p90_ms,
                "speedup": factor,
                "samples": samples,
            }
            print(
                f"{model:22} {shape:7} {x.p50_ms:7.2f} ms "
                f"{factor['value']:5.1f}x [{factor['low']:.1f}, {factor['high']:.1f}]",
                flush=True,
            )
        rows.append(row)
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    result[name] = {
        "examples": EXAMPLES,
        "rows": rows,
        "doubts": measured.doubts,
        "redrawn": measured.redrawn,
        "environment": {**describe(THREADS), "versions": library_versions()},
    }
    write_json(FILE, result)


class PlainWorker(Worker):
    """The harness's worker, but that a checkpoint reads texts as transformers does."""

    _plain: Any = None

    def _items(self, batch: int, tokens: int | str) -> list[Item]:
        found = super()._items(batch, tokens)
        if tokens == "text" and self._plain is None and self._artifact and self._artifact.format == "hf":
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            folder = str(self._artifact.path)
            # Its own dtype is that of the file, and half precision is slow on a CPU.
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
            self._plain = AutoTokenizer.from_pretrained(folder), model
        return found

    def _answer(self, item: Item) -> None:
        if isinstance(item, dict) or self._plain is None:
            return super()._answer(item)
        import torch

        tokenizer, model = self._plain
        with torch.inference_mode():
            tokens = tokenizer(item, padding=True, truncation=True, return_tensors="pt")
            scores = model(**tokens).logits.softmax(-1)
        for row in scores:
            best = int(row.argmax())
            _ = model.config.id2label[best], float(row[best])


def serve() -> PlainWorker:
    return PlainWorker()


def made(pruned: Path, name: str, share: str) -> dict[str, Path]:
    """INT8 of one pruned checkpoint for each engine, from an earlier run where it is there."""
    source = Artifact.open(pruned)
    context = make_context(open_task(source), Data(str(SHARED / "data" / name)))
    folder = ROOT / "models" / f"prune-speed-{name}-{share}"
    graph = step(source, folder / "onnx", "export-onnx", context)
    return {
        f"{engine}-int8-{share}": step(graph, folder / engine, what, context).path
        for engine, what in STEPS.items()
    }


def step(source: Artifact, target: Path, what: str, context: Any) -> Artifact:
    return Artifact.open(target) if target.exists() else apply(make(what, {}), source, target, context)


def tell(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
