"""CPU engines side by side on one fine-tuned checkpoint: torch, ONNX Runtime and OpenVINO, fp32 and INT8.

Run: python benchmarks/engines.py [CHECKPOINT] [DATA]
Makes the artifacts under models/engines (kept: a second run only measures), then measures all of them in
one interleaved run and writes benchmarks/results/engines.json: the report without raw samples, the
probes of each INT8 model, and the fastest one at each shape.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from optkit.benchmarking.benchmark import benchmark
from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.events import Event, Note
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
SHAPES = ("1x16", "1x32", "1x128", "8x128", "32x128", "1xdata")
#: Name → (name of its source, pass); in this order.
MODELS = {
    "onnxruntime-fp32": ("checkpoint", "export-onnx"),
    "onnxruntime-int8-dynamic": ("onnxruntime-fp32", "quantize-dynamic"),
    "onnxruntime-int8-static": ("onnxruntime-fp32", "quantize-static"),
    "openvino-fp32": ("onnxruntime-fp32", "open-vino"),
    "openvino-int8": ("onnxruntime-fp32", "open-vino-int8"),
}


def main(
    checkpoint: str = str(SHARED / "checkpoints" / "minilm-l6-sst2"),
    data: str = str(SHARED / "data" / "sst2"),
) -> None:
    folder = HERE.parent / "models" / "engines"
    made = build(checkpoint, data, folder)
    report = benchmark(
        [checkpoint, *(str(artifact.path) for artifact in made.values())],
        names=["torch-fp32", *made],
        data=data,
        shapes=SHAPES,
        events=tell,
    )
    result = report.to_dict()
    for row in result["rows"]:
        row["flips"] = len(row["flips"])
        row.pop("artifact", None)
        for latency in row["latency"]:
            latency["samples_ms"] = [len(draw) for draw in latency["samples_ms"]]
    result["winners"] = fastest(result["rows"])
    result["passes"] = {name: made[name].lineage[-1] for name in made}
    result["probes"] = probes(made, data)
    result.pop("source", None)
    file = HERE / "results" / "engines.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {file}")


def build(checkpoint: str, data: str, folder: Path) -> dict[str, Artifact]:
    """Every artifact of `MODELS`, from an earlier run where it is there."""
    source = fetch(checkpoint)
    context = make_context(open_task(source), Data(data))
    made: dict[str, Artifact] = {"checkpoint": source}
    for name, (parent, step) in MODELS.items():
        target = folder / name
        begun = time.monotonic()
        made[name] = (
            Artifact.open(target) if target.exists() else apply(make(step, {}), made[parent], target, context)
        )
        print(f"{name}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
    return {name: made[name] for name in MODELS}


def fastest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row with the least median at each shape."""
    found = []
    for place, latency in enumerate(rows[0]["latency"]):
        timed = [(row["latency"][place]["p50_ms"], row["name"]) for row in rows if row["latency"]]
        p50, name = min(timed)
        found.append({"shape": f"{latency['batch']}x{latency['tokens']}", "row": name, "p50_ms": p50})
    return found


def probes(made: dict[str, Artifact], data: str) -> dict[str, Any]:
    """What `optkit compress` would say of each INT8 model; each is asked in a process of its own."""
    from tempfile import TemporaryDirectory

    from optkit.benchmarking.evaluation import Evaluator
    from optkit.benchmarking.plan import Candidate, Plan, Shape
    from optkit.runtimes.settings import DEFAULT_RUNTIME
    from optkit.tasks.base import Columns

    task = open_task(next(iter(made.values())))
    labelled = task.read(Data(data).split("validation"), Columns())
    with TemporaryDirectory() as folder:
        encoded = Path(folder) / "examples.npz"
        labelled.encoded.save(encoded)
        plan = Plan(shapes=(Shape.parse("1xdata"),), threads=os.cpu_count() or 1)
        evaluator = Evaluator(task, labelled, encoded, plan)
        return {
            name: evaluator.probe(Candidate(name, str(artifact.path), DEFAULT_RUNTIME[artifact.format]))
            for name, artifact in made.items()
            if artifact.precision == "int8"
        }


def tell(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
