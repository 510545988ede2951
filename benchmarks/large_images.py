"""Images of 20 megapixels, from file to answer: time and peak memory, beside transformers' pipeline.

    python benchmarks/large_images.py          about three minutes on one core

One JPEG of 5,472 x 3,648 pixels is drawn here. The models are small and have random weights: what is measured
is what the image costs, not the model. Each answers in a process of its own, the libraries in turns, `ROUNDS`
times each; the first answer of a process, to a small image, does not count, and the peak of memory before it
is taken off. Segmentation of 150 classes is asked of the artifact alone: transformers draws all logits out to
the image's size at once, 12 GB of them.

Writes benchmarks/results/large_images.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "large_images.json"
SIZE = (5472, 3648)
ROUNDS = 3
TOWERS = "zero-shot-image-classification"
LABELS = ["a film", "a plot", "a cast"]
#: Name → task, and whether transformers' pipeline is asked too.
CASES = {
    "classification": ("image-classification", True),
    "detection": ("object-detection", True),
    "segmentation, 19 classes": ("semantic-segmentation", True),
    "segmentation, 150 classes": ("semantic-segmentation", False),
    "two towers": (TOWERS, True),
}


def main() -> None:
    results: dict[str, Any] = {"pixels": SIZE[0] * SIZE[1], "rounds": ROUNDS, "cases": {}}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        files = _drawn(home / "large.jpg", SIZE), _drawn(home / "small.jpg", (64, 48))
        results["file_bytes"] = files[0].stat().st_size
        for case, (task, both) in CASES.items():
            checkpoint = _model(case, task, home / f"{case}-model")
            artifact = _exported(checkpoint, task, home / f"{case}-onnx")
            asked = {"artifact": (artifact, "")} | ({"pipeline": (checkpoint, task)} if both else {})
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
            for _ in range(ROUNDS):
                for name, (model, of) in asked.items():
                    runs[name].append(_run(model, of, task, *files))
            results["cases"][case] = {
                name: {key: float(np.median([run[key] for run in some])) for key in some[0]}
                for name, some in runs.items()
            }
            print(case, json.dumps(results["cases"][case]), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _run(model: Path, pipeline: str, task: str, large: Path, small: Path) -> dict[str, float]:
    from optkit.core.process import Child

    with Child("benchmarks.large_images", 1) as child:
        child.call("load", folder=str(model), pipeline=pipeline, task=task)
        child.call("answer", file=str(small))
        answered: dict[str, float] = child.call("answer", file=str(large))
    return answered


class Answerer:
    """The process that answers, by transformers' pipeline or by optkit."""

    def load(self, folder: str, pipeline: str, task: str) -> None:
        self._asked: Callable[[str], Any] = (
            (lambda file: (file, LABELS)) if task == TOWERS else (lambda file: file)
        )
        if not pipeline:
            import optkit

            self._one: Callable[[Any], Any] = optkit.load(folder, threads=1).predict_one
            return
        import torch

        from benchmarks.vision import library

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        answer = library(folder, task)
        self._one = (lambda asked: answer((*asked, "This is a photo of {}."))) if task == TOWERS else answer

    def answer(self, file: str) -> dict[str, float]:
        """Milliseconds, and the megabytes by which the peak of this process grew."""
        from optkit.benchmarking.memory import peak

        before, begun = peak(), time.perf_counter()
        self._one(self._asked(file))
        taken = time.perf_counter() - begun
        return {"ms": taken * 1000, "peak_mb": (peak() - before) / 1e6, "peak_before_mb": before / 1e6}


def _drawn(file: Path, size: tuple[int, int]) -> Path:
    """Waves, discs and noise, so that a JPEG of it is neither empty nor noise alone."""
    from PIL import Image

    random, (width, height) = np.random.default_rng(0), size
    x, y = np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)[:, None]
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for channel, (a, b) in enumerate(((9, 4), (5, 11), (2, 7))):
        plane = 128 + 90 * np.sin(a * x + b * y) + 30 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05)
        pixels[..., channel] = np.clip(plane + random.integers(-8, 8, (height, width)), 0, 255)
    Image.fromarray(pixels).save(file, quality=90)
    return file


def _model(case: str, task: str, folder: Path) -> Path:
    import torch
    import transformers as t

    from tests.tasks.towers import two_towers

    torch.manual_seed(0)
    layers = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    if task == TOWERS:
        return two_towers(folder, side=224)
    if task == "image-classification":
        config = t.ViTConfig(**layers, image_size=224, patch_size=16, num_labels=10)
        t.ViTForImageClassification(config).save_pretrained(str(folder))
        t.ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(str(folder))
    elif task == "object-detection":
        config = t.YolosConfig(**layers, image_size=[480, 720], patch_size=16, num_detection_tokens=20)
        t.YolosForObjectDetection(config).save_pretrained(str(folder))
        edges = {"shortest_edge": 480, "longest_edge": 720}
        settings = {"image_processor_type": "YolosImageProcessor", "size": edges}
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    else:
        sizes = {"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4], "depths": [1] * 4}
        kinds = int(case.split(", ")[1].split()[0])
        config = t.SegformerConfig(**sizes, decoder_hidden_size=64, num_labels=kinds)
        t.SegformerForSemanticSegmentation(config).save_pretrained(str(folder))
        t.SegformerImageProcessor(size={"height": 512, "width": 512}).save_pretrained(str(folder))
    return folder


def _exported(checkpoint: Path, task: str, out: Path) -> Path:
    from optkit.models.checkpoint import fetch
    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.tasks.base import open_task

    source = fetch(checkpoint)
    return apply(make("export-onnx", {}), source, out, make_context(open_task(source, task))).path


def serve() -> Answerer:
    return Answerer()


if __name__ == "__main__":
    main()
