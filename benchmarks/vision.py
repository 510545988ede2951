"""Object detection and semantic segmentation, from drawn images to a served INT8 artifact.

    python benchmarks/vision.py [detection] [segmentation]

Squares and discs on noise, with exact boxes and masks (generated; nothing is downloaded, nothing kept),
train a small model on one core, from random weights: this shows that the path works and what INT8 costs here,
and says nothing of a real detector. `--int8` compresses it, gated on its own metric. Then transformers'
pipeline and the artifact answer the same files, each in a process of its own, in turns: the ratio is from
file to answer.

Writes benchmarks/results/vision.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "vision.json"
COUNTS = {"train": 1000, "validation": 200}
SIDE = 64
#: Task → passes over the training images, and the learning rate.
TRAINING = {"object-detection": (40.0, 1e-3), "semantic-segmentation": (6.0, 2e-3)}
#: Visits of each in the comparison with transformers' pipeline, and the files answered in each.
ROUNDS, FILES = 20, 16


def main(names: list[str]) -> None:
    import optkit

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in TRAINING:
        if names and task.split("-")[-1] not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            home, begun = Path(folder), time.monotonic()
            model = _model(task, home / "model")
            data = _data(task, home / "data")
            epochs, rate = TRAINING[task]
            tuned = optkit.finetune(
                *(model, data, home / "tuned"), epochs=epochs, learning_rate=rate, task=task, head_rate=1.0
            )
            report = optkit.compress(home / "tuned", data=data, out=home / "int8", int8=True)
            rows = {row.name: _row(row) for row in report.rows}
            ratio = _beside_pipeline(task, home / "tuned", home / "int8", data)
            results[task] = {
                "metric": report.metric,
                "training_score": tuned.score,
                "images": COUNTS,
                "rows": rows,
                "chosen": report.chosen,
                "pipeline_over_artifact": ratio,
                "seconds": round(time.monotonic() - begun, 1),
            }
            print(task, json.dumps(results[task], indent=1))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _row(row: Any) -> dict[str, Any]:
    return {
        "precision": row.precision,
        "verdict": row.verdict,
        "score": row.score,
        "drop": None if row.drop is None else asdict(row.drop),
        "agreement": row.agreement,
        "size_bytes": row.size_bytes,
        "p50_ms": {f"{x.batch}x{x.tokens}": x.p50_ms for x in row.latency},
        "speedup": {f"{x.batch}x{x.tokens}": x.speedup and asdict(x.speedup) for x in row.latency},
    }


def _data(task: str, folder: Path) -> Path:
    from tests.tasks.pictures import masks_data, shapes_data

    draw = shapes_data if task == "object-detection" else masks_data
    return draw(folder, COUNTS, side=SIDE)


def _model(task: str, folder: Path) -> Path:
    """Random weights, some hundred thousand of them."""
    import torch
    import transformers

    torch.manual_seed(0)
    if task == "object-detection":
        sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 128, "patch_size": 8, "num_detection_tokens": 8}
        config = transformers.YolosConfig(**sizes, image_size=[SIDE, SIDE])
        transformers.YolosForObjectDetection(config).save_pretrained(str(folder))
    else:
        sizes = {"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1] * 4}
        config = transformers.SegformerConfig(**sizes, decoder_hidden_size=64)
        transformers.SegformerForSemanticSegmentation(config).save_pretrained(str(folder))
    family = "Yolos" if task == "object-detection" else "Segformer"
    settings = {"image_processor_type": f"{family}ImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def _beside_pipeline(task: str, checkpoint: Path, artifact: Path, data: Path) -> dict[str, Any]:
    """Milliseconds from file to answer of both, and how many times as long the pipeline takes."""
    from optkit.benchmarking.statistics import ratio_interval
    from optkit.core.process import Child

    files = [str(p) for p in sorted(data.rglob("validation/*.png"))[:FILES]]
    theirs, ours = list[list[float]](), list[list[float]]()
    with Child("benchmarks.vision") as pipeline, Child("benchmarks.vision") as served:
        pipeline.call("load", folder=str(checkpoint), task=task, by="transformers")
        served.call("load", folder=str(artifact), task=task, by="optkit")
        for number in range(ROUNDS + 1):
            pair = [child.call("answer", files=files) for child in (pipeline, served)]
            if number:  # the first is warm-up
                theirs.append(pair[0])
                ours.append(pair[1])
    ratio = ratio_interval([theirs], [ours])
    return {
        "pipeline_ms": float(np.median(theirs)),
        "artifact_ms": float(np.median(ours)),
        "ratio": asdict(ratio),
        "rounds": ROUNDS,
        "files": len(files),
    }


class Answerer:
    """The process that answers files, by transformers' pipeline or by optkit."""

    def load(self, folder: str, task: str, by: str) -> None:
        if by == "optkit":
            import optkit

            self._one = optkit.load(folder, threads=1).predict_one
            return
        import torch
        import transformers

        torch.set_num_threads(1)
        kind = {"semantic-segmentation": "image-segmentation"}.get(task, task)
        self._one = transformers.pipeline(kind, folder)

    def answer(self, files: list[str]) -> list[float]:
        """Milliseconds of each."""
        taken = []
        for file in files:
            begun = time.perf_counter()
            self._one(file)
            taken.append((time.perf_counter() - begun) * 1000)
        return taken


def serve() -> Answerer:
    return Answerer()


if __name__ == "__main__":
    main(sys.argv[1:])
