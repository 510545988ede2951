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
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    from benchmarks.beside import beside, row_of

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
            rows = {row.name: row_of(row) for row in report.rows}
            files = [str(p) for p in sorted(data.rglob("validation/*.png"))[:FILES]]
            models = home / "tuned", home / "int8"
            ratio = beside("benchmarks.vision", task, *models, files, ROUNDS, threads=1)
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


def library(folder: str, task: str) -> Callable[[str], Any]:
    """transformers' pipeline: a file → its answer."""
    import transformers

    answer: Callable[[str], Any] = transformers.pipeline(
        {"semantic-segmentation": "image-segmentation"}.get(task, task), folder
    )
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
