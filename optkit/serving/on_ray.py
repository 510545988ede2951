"""Chunks of `predict_file` on Ray Data: every actor holds the model once and writes whole parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
        return {"rows": [answer_chunk(self._predictor, self._job, Chunk(*c)) for c in zip(*columns)]}


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
        try:
            for row in done.iter_rows():
                yield int(row["rows"])
        except Exception as error:  # Ray wraps what an actor raised, more than once
            raise _own(error) or error from None
    finally:
        if started:
            ray.shutdown()


def _anywhere(job: Job) -> dict[str, Any]:
    """`job` for actors, which were started in another folder: whole paths."""
    paths = {name: str(Path(getattr(job, name)).absolute()) for name in ("path", "input", "output")}
    if not Path(job.path).exists():  # a hub name
        del paths["path"]
    return {**asdict(job), **paths}


def _own(error: BaseException | None) -> OptkitError | None:
    """The error of optkit's that lies under Ray's."""
    while error is not None and not isinstance(error, OptkitError):
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return error
