"""`ranked`: the multiplies that a `quantize-static` rounds, by what each costs and what it saves."""

from __future__ import annotations

from dataclasses import asdict

from optkit.compression.job import Job
from optkit.compression.mixed_precision import Ranked
from optkit.compression.store import Store, key_after
from optkit.core.artifact import Artifact
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.core.schema.notes import Ranking, left_by_a_run
from optkit.passes.base import Pass


def ranked(job: Job, store: Store, step: Pass, source: Artifact, quantized: Artifact | None) -> list[Ranked]:
    """How far each multiply that `step` rounds moves the outputs, by a scan of `source`, and the time that
    INT8 saves it in `quantized` (None: unknown).

    A scan that an earlier run left in `store` is not made again.
    """
    file = store.folder / f"sensitivity-{key_after(source.fingerprint(), step, data=store.data)}.json"
    if not file.exists():
        with Child("optkit.passes.worker", threads=job.threads) as child:
            distances = child.call(
                "scan",
                events=job.events,
                parameters=step.parameters(),
                source=str(source.path),
                task=job.task.name,
                data=job.data.name,
                columns=asdict(job.columns),
                threads=job.threads,
            )
        encoded = job.evaluator.examples_for(source, job.source) or str(job.evaluator.encoded_file)
        times = [_kernel_times(one, encoded, job.threads) for one in (source, quantized) if one]
        saved = {n: us - times[-1][n] for n, us in times[0].items() if quantized and n in times[-1]}
        write_json(file, {"ranked": distances, "saved_us": saved})
    stored = left_by_a_run(Ranking, file)
    return [Ranked(str(n), float(distance), stored.saved_us.get(str(n))) for n, distance in stored.ranked]


def _kernel_times(artifact: Artifact, encoded: str, threads: int | None) -> dict[str, float]:
    """Node → microseconds in ONNX Runtime, on an example of median length."""
    with Child("optkit.benchmarking.probe", threads=threads) as child:
        options = {"threads": threads}
        return child.call("kernel_times", artifact=str(artifact.path), encoded=encoded, options=options)
