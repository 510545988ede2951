"""STS-B with all-MiniLM-L6-v2: Spearman before and after INT8, and both again after fine-tuning.

Run: python benchmarks/embeddings.py [EPOCHS] [DATA]   (EPOCHS 0 leaves fine-tuning out)
Writes benchmarks/results/embeddings.json: per model the score, its drop with the interval, size and speedup.
The checkpoint's own card says which data it was trained on; STS-B's training split is not among it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import optkit
from optkit.artifact import library_versions
from optkit.demo import encoder_folder
from optkit.training.finetune import FinetuneSettings, finetune

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
MODELS = HERE.parent / "models"


def main(epochs: str = "1", data: str = str(SHARED / "data" / "stsb")) -> None:
    result: dict[str, Any] = {"data": Path(data).name, "versions": library_versions(), "splits": {}}
    checkpoints = {"pretrained": encoder_folder()}
    if float(epochs) > 0:
        tuned = MODELS / "stsb-fp32"
        shutil.rmtree(tuned, ignore_errors=True)
        settings = FinetuneSettings(epochs=float(epochs), learning_rate=5e-5)
        begun = time.monotonic()
        made = finetune(encoder_folder(), data, tuned, settings, task="embeddings")
        notes = made.lineage[-1]["notes"]
        result["finetune"] = {
            "settings": vars(settings),
            "history": notes["history"],
            "seconds": round(time.monotonic() - begun, 1),
        }
        checkpoints["fine-tuned"] = tuned
    for name, checkpoint in checkpoints.items():
        for split in ("validation", "test"):
            result["splits"][f"{name}, {split}"] = rows(checkpoint, data, name, split)
    file = HERE / "results" / "embeddings.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for title, found in result["splits"].items():
        for row in found:
            print(f"{title}: {row['name']}: {row['spearman']:.4f}, agreement {row['agreement']:.4f}")


def rows(checkpoint: Path, data: str, name: str, split: str) -> list[dict[str, Any]]:
    """Compress, and give every row of the report; times only on one text of the data's own lengths."""
    out = MODELS / f"stsb-{name}-{split}-int8"
    report = optkit.compress(
        checkpoint,
        optkit.Recipe.int8(),
        data=data,
        out=out,
        split=split,
        shapes=("1xdata",),
        force=True,
    )
    return [
        {
            "name": row.name,
            "spearman": row.score,
            "drop": vars(row.drop) if row.drop else None,
            "agreement": row.agreement,
            "size_bytes": row.size_bytes,
            "speedup": vars(row.speedup) if row.speedup else None,
            "verdict": row.verdict,
        }
        for row in report.rows
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
