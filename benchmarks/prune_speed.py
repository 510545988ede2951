"""What the FLOPs budget buys: pruned, distilled INT8 models beside torch eager fp32, side by side.

Run: python benchmarks/prune_speed.py [DATA] [SHARE ...]
Takes the artifacts that `prune_distill.py` left in models/ and measures them in one interleaved run, each
alone in a process: ONNX Runtime and OpenVINO, at 1 x 128 tokens and on the data's own lengths. Writes
benchmarks/results/prune_speed.json, which keeps one entry per data set. Scores are those of the validation
split; test scores are in prune_distill.json.

Prediction, written before the first run: at 60% removed 7 to 10 times at 1 x 128 (the shape measured that in
the design notes), at 75% 10 to 12 times; on the data's own lengths, about 25 tokens, 6 to 9 times.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from prune_distill import CHECKPOINTS, HERE, ROOT, SHARED, THREADS

from optkit.artifact import write_json
from optkit.benchmarking import benchmark

FILE = HERE / "results" / "prune_speed.json"
SHAPES = ("1x128", "1xdata")
STEPS = {"onnxruntime": "quantize-dynamic", "openvino": "open-vino-int8"}


def main(name: str = "sst2", *shares: str) -> None:
    found = {
        f"{engine}-int8-{share}": ROOT / "models" / f"prune-distill-{name}-{share}-{step}"
        for share in shares or ("0.6", "0.75")
        for engine, step in STEPS.items()
    }
    models = {"torch-fp32": CHECKPOINTS[name], **{n: path for n, path in found.items() if path.exists()}}
    report = benchmark(
        [str(path) for path in models.values()],
        names=list(models),
        data=str(SHARED / "data" / name),
        shapes=SHAPES,
        plan={"threads": THREADS},
        listener=tell,
    ).to_dict()
    for row in report["rows"]:
        row["flips"] = len(row["flips"])
        row.pop("artifact", None)
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


def tell(event: dict[str, Any]) -> None:
    if event["event"] == "note":
        print(event["text"], file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
