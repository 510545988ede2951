"""What the FLOPs budget buys: INT8 of pruned models beside torch eager fp32, side by side.

Run: python benchmarks/prune_speed.py [DATA] [SHARE ...]
Takes the pruned checkpoints that `prune_distill.py` left in models/, makes INT8 of them for ONNX Runtime and
OpenVINO, and measures all in one interleaved run, each alone in a process, at 1 x 128 tokens and on the
data's own lengths. Writes benchmarks/results/prune_speed.json, one entry per data set. Times depend on the
shape and not on what distillation does to the weights; scores are in prune_distill.json.

Prediction, written before the first run: at 60% removed 7 to 10 times at 1 x 128 (the shape measured that in
the design notes), at 75% 10 to 12 times; on the data's own lengths, about 25 tokens, 6 to 9 times.
Found at 75%: OpenVINO 11.2 times at 1 x 128, as predicted; ONNX Runtime 12.2 times on the data's own
lengths, more than predicted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prune_distill import CHECKPOINTS, HERE, ROOT, SHARED, THREADS

from optkit.artifact import Artifact, write_json
from optkit.benchmarking import benchmark
from optkit.data import Data
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.task import open_task

FILE = HERE / "results" / "prune_speed.json"
SHAPES = ("1x128", "1xdata")
STEPS = {"onnxruntime": "quantize-dynamic", "openvino": "open-vino-int8"}


def main(name: str = "sst2", *shares: str) -> None:
    models = {"torch-fp32": CHECKPOINTS[name]}
    for share in shares or ("0.6", "0.75"):
        pruned = ROOT / "models" / f"prune-distill-{name}-{share}-prune"
        if pruned.exists():
            models |= made(pruned, name, share)
    report = benchmark(
        [str(path) for path in models.values()],
        names=list(models),
        data=str(SHARED / "data" / name),
        limit=200,
        shapes=SHAPES,
        plan={"threads": THREADS},
        listener=tell,
    ).to_dict()
    for row in report["rows"]:
        for key in ("flips", "artifact", "score", "score_delta", "agreement", "drop"):
            row.pop(key, None)
        for latency in row["latency"]:
            latency["samples_ms"] = [len(draw) for draw in latency["samples_ms"]]
            factor = latency["speedup"] or {"value": 1, "low": 1, "high": 1}
            shape = f"{latency['batch']}x{latency['tokens']}"
            print(
                f"{row['name']:22} {shape:7} {latency['p50_ms']:7.2f} ms "
                f"{factor['value']:5.1f}x [{factor['low']:.1f}, {factor['high']:.1f}]",
                flush=True,
            )
    report.pop("source", None)
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    write_json(FILE, result | {name: report})


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


def tell(event: dict[str, Any]) -> None:
    if event["event"] == "note":
        print(event["text"], file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
