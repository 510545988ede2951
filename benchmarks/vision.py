"""Classification, detection, segmentation and two towers, from drawn images to a served INT8 artifact.

    python benchmarks/vision.py [classification] [detection] [segmentation] [towers]

Squares and discs on noise, with exact boxes and masks (generated; nothing is downloaded, nothing kept),
train a small model on one core, from random weights: this shows that the path works and what INT8 costs here,
and says nothing of a real detector. `--int8` compresses it, gated on its own metric. Then transformers'
pipeline and the artifact answer the same files, each in a process of its own, in turns: the ratio is from
file to answer. The towers (`benchmarks/drawn_towers.py`) are a small CLIP that is trained here on drawn
shapes and their captions; some colours of some shapes it never saw. The pipeline reads all labels again
with every image, the artifact once.

Writes benchmarks/results/vision.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "vision.json"
COUNTS = {"train": 1000, "validation": 200}
SIDE = 64
#: Task → passes over the training images, and the learning rate.
TRAINING = {
    "image-classification": (20.0, 1e-3),
    "object-detection": (40.0, 1e-3),
    "semantic-segmentation": (6.0, 2e-3),
}
TOWERS = "zero-shot-image-classification"
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
            files = [str(p) for p in sorted(data.rglob("*.png")) if "validation" in p.parts][:FILES]
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
        _write(results)
    if not names or "towers" in names:
        with tempfile.TemporaryDirectory() as folder:
            results[TOWERS] = _towers(Path(folder))
        print(TOWERS, json.dumps(results[TOWERS], indent=1))
        _write(results)


def _write(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _towers(home: Path) -> dict[str, Any]:
    import optkit
    from benchmarks import drawn_towers
    from benchmarks.beside import beside, row_of

    begun, data = time.monotonic(), drawn_towers.data(home / "data")
    trained, models = drawn_towers.train(home / "tuned"), (home / "tuned", home / "int8")
    report = optkit.compress(models[0], data=data, out=models[1], int8=True)
    files = sorted((data / "images").glob("validation-*.png"))[:: 360 // FILES][:FILES]
    asked = [[str(file), list(drawn_towers.LABELS), drawn_towers.TEMPLATE] for file in files]
    return {
        **trained,
        "labels": len(drawn_towers.LABELS),
        "images": drawn_towers.COUNTS,
        "metric": report.metric,
        "rows": {row.name: row_of(row) for row in report.rows},
        "chosen": report.chosen,
        "accuracy_unseen": {model.name: _accuracy(model, data, drawn_towers.UNSEEN) for model in models},
        "recall": {model.name: _recall(model, data) for model in models},
        "pipeline_over_artifact": beside("benchmarks.vision", TOWERS, *models, asked, ROUNDS, threads=1),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _accuracy(model: Path, data: Path, labels: Sequence[str]) -> float:
    """Over the images of these labels, which are chosen among all."""
    answers, references, task = _answered(model, data, "accuracy")
    some = [i for i, right in enumerate(references) if right[0] in labels]
    return float(task.score(answers[some], [references[i] for i in some]))


def _recall(model: Path, data: Path) -> list[dict[str, Any]]:
    answers, references, task = _answered(model, data, "text_to_image_recall@1")
    return [asdict(line) for line in task.table(answers, references)]


def _answered(model: Path, data: Path, metric: str) -> tuple[Any, list[Any], Any]:
    """Answers to the validation split, what is right, and the task."""
    from optkit.data.dataset import Data
    from optkit.models.checkpoint import fetch
    from optkit.runtimes.base import infer_all, open_session
    from optkit.tasks.base import Columns, open_task

    artifact = fetch(model)
    task = open_task(artifact, TOWERS, metric)
    labelled = task.read(Data(str(data)).split("validation"), Columns())
    with open_session(artifact, threads=1) as session:
        answers = task.answers(infer_all(session, labelled.encoded, 32, 4096))
    return answers, labelled.references, task


def _data(task: str, folder: Path) -> Path:
    from tests.tasks.pictures import drawn_shapes, masks_data, shapes_data

    if task == "image-classification":  # a folder per class: which shapes are there
        from PIL import Image

        for seed, (split, count) in enumerate(COUNTS.items()):
            for i, row in enumerate(drawn_shapes(count, SIDE, seed)):
                file = folder / split / " and ".join(sorted(set(row["category"]))) / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(row["pixels"]).save(file)
        return folder
    draw = shapes_data if task == "object-detection" else masks_data
    return draw(folder, COUNTS, side=SIDE)


def _model(task: str, folder: Path) -> Path:
    """Random weights, some hundred thousand of them."""
    import torch
    import transformers

    torch.manual_seed(0)
    if task == "image-classification":
        sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
        config = transformers.ViTConfig(**sizes, intermediate_size=128, image_size=SIDE, patch_size=8)
        transformers.ViTForImageClassification(config).save_pretrained(str(folder))
    elif task == "object-detection":
        sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 128, "patch_size": 8, "num_detection_tokens": 8}
        config = transformers.YolosConfig(**sizes, image_size=[SIDE, SIDE])
        transformers.YolosForObjectDetection(config).save_pretrained(str(folder))
    else:
        sizes = {"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1] * 4}
        config = transformers.SegformerConfig(**sizes, decoder_hidden_size=64)
        transformers.SegformerForSemanticSegmentation(config).save_pretrained(str(folder))
    families = {"image-classification": "ViT", "object-detection": "Yolos"}
    family = families.get(task, "Segformer")
    settings = {"image_processor_type": f"{family}ImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def library(folder: str, task: str) -> Callable[[Any], Any]:
    """transformers' pipeline: a file, or a file with labels and template → its answer."""
    import transformers

    if task == TOWERS:
        pipeline = transformers.pipeline(TOWERS, folder, tokenizer=folder, image_processor=folder)
        return lambda asked: pipeline(asked[0], candidate_labels=asked[1], hypothesis_template=asked[2])
    answer: Callable[[str], Any] = transformers.pipeline(
        {"semantic-segmentation": "image-segmentation"}.get(task, task), folder
    )
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
