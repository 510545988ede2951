"""Chunks of `predict_file` on Ray Data: every actor holds the model once and writes whole parts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optkit import errors
from optkit.errors import MissingDependency, OptkitError
from optkit.serving.inputs import Chunk
from optkit.serving.offline import Job, answer_chunk


class Answerer:
    """A Ray Data actor: a batch of chunks in, how many rows each covered out."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = Job(**{**job, "keep": tuple(job["keep"])})
        self._predictor = self._job.open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns = (batch[name].tolist() for name in ("number", "first", "rows", "start"))
        told = [self._told(Chunk(*column)) for column in zip(*columns)]
        return {"rows": [rows for rows, _ in told], "error": [error for _, error in told]}

    def _told(self, chunk: Chunk) -> tuple[int, str]:
        """Rows and "", or an error as JSON: one that is raised here reaches the caller as text only."""
        try:
            return answer_chunk(self._predictor, self._job, chunk), ""
        except OptkitError as error:
            return 0, json.dumps([type(error).__name__, str(error), error.hint])


def answer_chunks(job: Job, chunks: list[Chunk]) -> Iterator[int]:
    """Answer `chunks` on the Ray cluster of RAY_ADDRESS, or on one started here; rows as they are done.

    Actors share the CPUs: each takes `job.threads` of them (default 1). Files must be visible to all.
    """
    try:
        import ray
        import ray.data
    except ImportError as reason:
        raise MissingDependency.of("ray", "ray") from reason
    if not chunks:
        return
    started = not ray.is_initialized()
    if started:
        ray.init(logging_level="warning", log_to_driver=False, include_dashboard=False)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        most = max(1, min(len(chunks), cpus // (job.threads or 1)))
        data = ray.data.from_items([asdict(chunk) for chunk in chunks], override_num_blocks=len(chunks))
        done = data.map_batches(
            Answerer,
            fn_constructor_args=(_anywhere(job),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=job.threads or 1,
            batch_size=1,
        )
        for row in done.iter_rows():
            if row["error"]:
                name, message, hint = json.loads(row["error"])
                raise getattr(errors, name)(message, hint=hint)
            yield int(row["rows"])
    finally:
        if started:
            ray.shutdown()


def _anywhere(job: Job) -> dict[str, Any]:
    """`job` for actors, which were started in another folder: whole paths."""
    paths = {name: str(Path(getattr(job, name)).absolute()) for name in ("path", "input", "output")}
    if not os.path.exists(job.path):  # a hub name
        del paths["path"]
    return {**asdict(job), **paths}
