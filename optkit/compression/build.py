"""`build`: a TensorRT artifact's engine anew, on this machine, from the ONNX graph beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from optkit.core.artifact import REPORTS, Artifact, copy_files, relocated, seal
from optkit.core.output import claimed, staged
from optkit.errors import CheckpointError, RecipeError
from optkit.events import Events, Progress, silent
from optkit.passes.base import make
from optkit.passes.context import make_context
from optkit.passes.tensorrt import ENGINE_FILE, INSPECTOR_FILE, TensorRT, last_build
from optkit.runtimes.trt.profiles import Profile, from_record
from optkit.tasks.base import open_task


def build(path: str | Path, out: str | Path | None = None, *, events: Events = silent) -> Artifact:
    """Rebuild a TensorRT engine for this GPU, with the same settings and profiles. Reports stay.

    Parameters:
        path: a TensorRT artifact's folder.
        out: a new folder. None: replace the artifact, once the new one is whole.
        events: hears of progress (`optkit.events`).

    Raises CheckpointError where `path` is no TensorRT artifact or its graph was changed, MissingDependency
    without the extra `tensorrt`.

    >>> optkit.build("models/sst2-tensorrt", "models/here")  # doctest: +SKIP
    """
    artifact = Artifact.open(path)
    step = last_build(artifact)
    files = {n: s for n, s in artifact.manifest["files"].items() if n not in (ENGINE_FILE, INSPECTOR_FILE)}
    replace(artifact, manifest={**artifact.manifest, "files": files}).verify()
    tensorrt, profiles = _as_before(step, path)
    final, begun = Path(out or path), time.monotonic()
    with claimed(final, out is None, () if out is None else [path]), staged(final, out is None) as folder:
        reports = [name for name in REPORTS if (artifact.path / name).is_file()]
        copy_files(artifact.path, [*files, *reports], folder)
        context = make_context(
            open_task(artifact), None, progress=lambda text, fraction: events(Progress(text, fraction))
        )
        notes = tensorrt.build(folder, profiles, context)
        parent = replace(artifact, manifest={**artifact.manifest, "lineage": artifact.lineage[:-1]})
        seconds = round(time.monotonic() - begun, 3)
        rebuilt = seal(folder, parent, {**step, "notes": notes, "seconds": seconds})
    return relocated(rebuilt, final)


def _as_before(step: dict[str, Any], path: str | Path) -> tuple[TensorRT, list[Profile]]:
    """The pass and the profiles that a manifest records, without its folder of the timing cache."""
    try:
        tensorrt = make(step["pass"], {**step["parameters"], "timing_cache": ""})
        profiles = from_record(step["notes"]["profiles"])
    except (RecipeError, KeyError, TypeError, ValueError) as reason:
        raise CheckpointError(
            f"Expected the fields and optimization profiles of a build in the manifest of {str(path)!r}: "
            f"{type(reason).__name__}: {reason}.",
            hint="Build it from the checkpoint again.",
        ) from reason
    assert isinstance(tensorrt, TensorRT)
    return tensorrt, profiles
