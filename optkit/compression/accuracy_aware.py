"""`gentler`: where no candidate keeps the score, other settings of `quantize-static` are tried."""

from __future__ import annotations

import math
from dataclasses import asdict

from optkit.benchmarking.evaluation import Failure, Model
from optkit.compression.chain import Models, attempt, first_of
from optkit.compression.job import Job
from optkit.compression.mixed_precision import Ranked, search
from optkit.compression.recipe import Recipe
from optkit.compression.store import Store, key_after
from optkit.core.artifact import Artifact
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.core.schema.notes import Ranking, left_by_a_run
from optkit.data.dataset import Data
from optkit.events import Note, Step
from optkit.passes.base import Pass
from optkit.passes.quantize_static import QuantizeStatic


def gentler(
    job: Job, store: Store, recipe: Recipe, models: Models, candidates: list[str]
) -> tuple[list[str], set[str]]:
    """Try gentler ways where every candidate misses the gate's score; each is one more model and candidate.

    What was tried, in words, and the names of those that missed the score and need not be timed.
    """
    baseline = first_of(models).answers.score
    allowed = recipe.gate.allowed_drop(baseline)
    chain = next((c for c in recipe.chains() if isinstance(c[-1], QuantizeStatic)), None)
    if allowed is None or chain is None or not isinstance(job.data, Data):
        return [], set()
    before, last = chain[:-1], chain[-1]
    assert isinstance(last, QuantizeStatic)
    needed = baseline - allowed - 1e-12
    source = _artifact_of(store, before)
    scores = _scores(models)
    if source is None or any(scores[name] >= needed for name in candidates):
        return [], set()

    def score_of(step: Pass) -> float:
        failed = attempt(job, store, (*before, step), models, candidates)
        return -math.inf if failed else _scores(models)[candidates[-1]]

    def rank(step: Pass) -> list[Ranked]:
        job.events(Step("sensitivity scan", len(models) + 1, len(models) + 1))
        return _ranked(job, store, step, source, _artifact_of(store, (*before, step)))

    first_try, model = len(candidates), models.get(store.keys(chain)[-1])
    score = scores[model.name] if isinstance(model, Model) else -math.inf
    trace = search(last, score, needed, score_of, rank)
    scores = _scores(models)
    best = max(candidates, key=scores.__getitem__)
    for line in trace:
        job.events(Note(line))
    return trace, {name for name in candidates[first_try:] if name != best and scores[name] < needed}


def _ranked(job: Job, store: Store, step: Pass, source: Artifact, quantized: Artifact | None) -> list[Ranked]:
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


def _scores(models: Models) -> dict[str, float]:
    """The score of each model; below all others where it failed."""
    return {m.name: -math.inf if isinstance(m, Failure) else m.answers.score for m in models.values()}


def _artifact_of(store: Store, chain: tuple[Pass, ...]) -> Artifact | None:
    """What `chain` made; None where it failed."""
    folder = store.folders(chain)[-1] if chain else None
    return Artifact.open(folder) if folder and folder.exists() else None
