"""Build a TensorRT artifact's engine anew, on this machine, from the ONNX graph beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from optkit.artifact import REPORTS, Artifact, copy_files, relocated, seal
from optkit.data import Data
from optkit.errors import CheckpointError
from optkit.output import claimed, staged
from optkit.passes.base import make
from optkit.passes.context import make_context
from optkit.passes.tensorrt import ENGINE_FILE, INSPECTOR_FILE, TensorRT, last_build
from optkit.task import open_task
from optkit.trt.profiles import from_record


def rebuild(
    path: str | Path,
    out: str | Path | None = None,
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
    data: Data | None = None,
) -> Artifact:
    """The same pass with the same fields and profiles, for this GPU and this TensorRT.

    `out` None replaces the folder, once the new one is whole; reports stay.
    Raises CheckpointError where `path` is no TensorRT artifact or its graph was changed.
    """
    artifact = Artifact.open(path)
    step = last_build(artifact)
    kept = {n: s for n, s in artifact.manifest["files"].items() if n not in (ENGINE_FILE, INSPECTOR_FILE)}
    replace(artifact, manifest={**artifact.manifest, "files": kept}).verify()
    tensorrt = make(step["pass"], step["parameters"])
    assert isinstance(tensorrt, TensorRT)
    if "profiles" not in step["notes"]:
        raise CheckpointError(f"The manifest of {str(path)!r} holds no optimization profiles.")
    final, begun = Path(out or path), time.monotonic()
    with claimed(final, out is None, () if out is None else [path]), staged(final, out is None) as folder:
        reports = [name for name in REPORTS if (artifact.path / name).is_file()]
        copy_files(artifact.path, [*kept, *reports], folder)
        context = make_context(open_task(artifact), data, progress=progress)
        notes = tensorrt.build(folder, from_record(step["notes"]["profiles"]), context)
        parent = replace(artifact, manifest={**artifact.manifest, "lineage": artifact.lineage[:-1]})
        seconds = round(time.monotonic() - begun, 3)
        made = seal(folder, parent, {**step, "notes": notes, "seconds": seconds})
    return relocated(made, final)
