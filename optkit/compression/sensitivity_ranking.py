"""`ranked`: the multiplies that a `quantize-static` rounds, by what each costs and what it saves."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from optkit.artifact import Artifact
from optkit.compression.mixed_precision import Ranked
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.core.schema.notes import Ranking, left_by_a_run
from optkit.data.dataset import Data
from optkit.events import Events
from optkit.passes.base import Pass
from optkit.tasks.base import Columns


def ranked(
    step: Pass,
    source: Artifact,
    made: Artifact | None,
    file: Path,
    encoded: str,
    data: Data,
    columns: Columns,
    task: str,
    threads: int | None,
    events: Events,
) -> list[Ranked]:
    """How far each multiply that `step` rounds moves the outputs, by a scan of `source`, and the time that
    INT8 saves it in `made` (None: unknown), on the `encoded` examples.

    Read from `file` where an earlier run left it, else written there.
    """
    if not file.exists():
        with Child("optkit.passes.worker", threads=threads) as child:
            distances = child.call(
                "scan",
                events=events,
                parameters=step.parameters(),
                source=str(source.path),
                task=task,
                data=data.name,
                columns=asdict(columns),
                threads=threads,
            )
        times = [_kernel_times(artifact, encoded, threads) for artifact in (source, made) if artifact]
        saved = {n: us - times[-1][n] for n, us in times[0].items() if made and n in times[-1]}
        write_json(file, {"ranked": distances, "saved_us": saved})
    found = left_by_a_run(Ranking, file)
    return [Ranked(str(n), float(distance), found.saved_us.get(str(n))) for n, distance in found.ranked]


def _kernel_times(artifact: Artifact, encoded: str, threads: int | None) -> dict[str, float]:
    """Node → microseconds in ONNX Runtime, on an example of median length."""
    with Child("optkit.benchmarking.probe", threads=threads) as child:
        options = {"threads": threads}
        return child.call("kernel_times", artifact=str(artifact.path), encoded=encoded, options=options)
