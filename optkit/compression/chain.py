"""Run the passes of a recipe, score what each makes, then measure all of it side by side and judge it.

`run_recipe` → `measure` → `judge`. Each artifact and its answers lie in a `Store`, so that the same command
run again goes on where it was interrupted.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.evaluation import Failure, Model
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Candidate
from optkit.benchmarking.results import failed_row, faster_than_possible, row_of
from optkit.benchmarking.roofline import Peak
from optkit.benchmarking.targets import EAGER, eager_options, tuned
from optkit.compression.job import Job
from optkit.compression.recipe import Recipe
from optkit.compression.store import Store, pass_record, peak_file
from optkit.core.artifact import Artifact
from optkit.core.files import read_json, write_json
from optkit.core.locks import locked
from optkit.core.process import Child
from optkit.errors import (
    CheckpointError,
    DataError,
    OptkitError,
    OutputError,
    PassError,
    RecipeError,
    WorkerError,
)
from optkit.events import Note, Progress, RowDone, Step
from optkit.passes.base import Pass, make
from optkit.report.model import Answers, Row, quality
from optkit.runtimes.settings import DEFAULT_RUNTIME

#: What one step may raise while others are well: it does not suit the model or the data, or it broke. A full
#: disk or a package that is not installed is everyone's.
FAILURES = (PassError, WorkerError, RecipeError, CheckpointError, DataError)
#: What was made so far, by its key, in the order of the report: first both baselines.
Models = dict[str, Model | Failure]


@dataclass(frozen=True)
class MeasuredRows:
    """`rows`, not judged yet, and what they were measured with; `seconds` is how long that took."""

    rows: list[Row]
    measurement: Measurement
    peaks: Peak | None = None
    doubts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss_bytes: int = 0


def run_recipe(job: Job, store: Store, recipe: Recipe) -> tuple[Models, list[str]]:
    """Both baselines, then every chain of `recipe` (shared steps run once), and the names of the candidates.

    A chain that fails leaves a `Failure`, and the others go on. Raises what failed where all do.
    """
    chains = recipe.chains()
    distinct = {chain[: i + 1] for chain in chains for i in range(len(chain))}
    total = 2 + len(distinct - {tuned_chain(recipe.target)})
    models = baselines(job, store, total)
    candidates: list[str] = []
    failures = [error for chain in chains if (error := attempt(job, store, chain, models, candidates, total))]
    if len(failures) == len(chains):
        raise failures[0]
    return models, candidates


def tuned_chain(target: str) -> tuple[Pass, ...]:
    """The passes of the second baseline, which nothing chosen may be slower than."""
    return tuple(make(*one) for one in tuned(target)[1])


def baselines(job: Job, store: Store, total: int = 2) -> Models:
    """The checkpoint as its user runs it, and the tuned fp32 model. Raises what fails."""
    target = job.evaluator.target
    options = {**eager_options(target), "task": job.task.name}
    if job.trust_remote_code:
        options["trust_remote_code"] = True
    eager = Candidate(EAGER, str(job.source.path), "torch", options, texts=job.evaluator.texts)
    job.events(Step(EAGER, 1, total))
    models: Models = {store.root: score(job, store, eager, store.root)}
    run_chain(job, store, tuned_chain(target), models, total, tuned(target)[0])
    return models


def attempt(
    job: Job, store: Store, chain: tuple[Pass, ...], models: Models, candidates: list[str], total: int = 0
) -> OptkitError | None:
    """Run `chain` and name its candidate; where one of its steps fails, why."""
    try:
        candidates.append(run_chain(job, store, chain, models, total).name)
    except FAILURES as error:
        if not any(isinstance(model, Failure) and model.error is error for model in models.values()):
            raise  # it came of no step
        return error
    return None


def run_chain(
    job: Job, store: Store, chain: tuple[Pass, ...], models: Models, total: int = 0, name: str | None = None
) -> Model:
    """Run the passes of `chain` that are not among `models` yet, and score each result; the last one.

    Each is added to `models`, by `name` or after its pass; so is what failed, which is raised. A step that
    failed in another chain is not tried again. `total` is how many models there will be.
    """
    artifact, parent = job.source, EAGER
    for step, key, folder in zip(chain, store.keys(chain), store.folders(chain)):
        if key not in models:
            title = name or _unused(step.name(), models)
            job.events(Step(title, len(models) + 1, max(total, len(models) + 1)))
            try:
                artifact = apply(job, step, artifact, folder)
                models[key] = score(job, store, candidate(job, title, artifact), key, parent)
            except FAILURES as error:
                models[key] = Failure(title, error)
                job.events(Note(f"{title}: {error}"))
                raise
        model = models[key]
        if isinstance(model, Failure):
            raise model.error
        artifact, parent, result = Artifact.open(folder), model.name, model
    return result


def first_of(models: Models) -> Model:
    """The first baseline, which all are compared with."""
    first = next(iter(models.values()))
    assert isinstance(first, Model)
    return first


def apply(job: Job, step: Pass, source: Artifact, folder: Path) -> Artifact:
    """What `step` makes of `source`, in a process of its own unless an earlier run left it in `folder`."""
    with locked(folder):  # another process may be at it
        if folder.exists():
            job.events(Note(f"{step.name()}: done before, not run again"))
            return Artifact.open(folder)
        with Child("optkit.passes.worker", threads=job.threads) as child:
            memory = child.call(
                "run",
                events=job.events,
                step=step.name(),
                parameters=step.parameters(),
                source=str(source.path),
                final=str(folder),
                task=job.task.name,
                data=None if job.calibration else job.data.name,
                calibration=str(job.calibration) if job.calibration else None,
                columns=asdict(job.columns),
                threads=job.threads,
                trust_remote_code=job.trust_remote_code,
                origin=str(job.source.path),
                metric=job.task.metric,
            )
        write_json(peak_file(folder), memory)
        return Artifact.open(folder)


def candidate(job: Job, title: str, artifact: Artifact) -> Candidate:
    """`artifact` in its format's runtime; with examples of its own where a pass changed the tokenizer."""
    evaluator = job.evaluator
    return Candidate(
        title,
        str(artifact.path),
        DEFAULT_RUNTIME[artifact.format],
        encoded=evaluator.examples_for(artifact, job.source),
        texts=evaluator.texts,
    )


def score(job: Job, store: Store, candidate: Candidate, key: str, parent: str | None = None) -> Model:
    """How `candidate`, made from `parent`, answers beside the first baseline (which has no parent): now, or
    as an earlier run noted it."""
    file, outputs = store.answers_files(key)
    with locked(file):  # another process may be at it
        if file.exists() and outputs.exists():
            answers = Answers.from_dict(read_json(file, OutputError))
            job.events(Note(f"{candidate.name}: scored before, not scored again"))
        else:
            baseline = None if parent is None else load_outputs(store.answers_files(store.root)[1])
            answers = job.evaluator.answer(candidate, outputs, baseline)
            if parent is not None:
                answers = replace(answers, **pass_record(Artifact.open(candidate.artifact)))
            write_json(file, asdict(answers))
    what = "agreement" if math.isnan(answers.score) else job.task.metric
    size = f"{answers.size_bytes / 1e6:.1f} MB"
    job.events(Note(f"{candidate.name}: {what} {quality(answers):.4f}, {size}"))
    return Model(candidate, answers, parent)


def measure(
    job: Job, models: Collection[Model | Failure], candidates: Collection[str], untimed: Collection[str] = ()
) -> MeasuredRows:
    """All latencies in one interleaved measurement, then the probes of the INT8 `candidates`.

    `untimed` names those that nobody asks how fast they are. What fails has a row of verdict `error`, and the
    others go on. Raises WorkerError where one of the baselines, the first two, fails.
    """
    begun, evaluator = time.monotonic(), job.evaluator
    job.events(Step("latency, all side by side"))
    timed = [m for m in models if isinstance(m, Model) and m.name not in untimed]
    measurement = evaluator.measure(timed)
    for baseline in timed[:2]:  # no ratio, and no word on fp32, without them
        if error := measurement[baseline.name].error:
            raise WorkerError(
                f"Expected times of the baseline {baseline.name}, received an error: {error}",
                hint="Run the same command again: what was made and scored is kept.",
            )
    sound = [model for model in timed if not measurement[model.name].error]
    peaks, bounds, doubts = evaluator.roofline(sound)
    probes = {m.name: probe(job, m) for m in sound if m.name in candidates and m.answers.precision == "int8"}
    encoded, first, times = evaluator.labelled.encoded, measurement[timed[0].name], measurement.models
    rows = [
        failed_row(m.name, m.error)
        if isinstance(m, Failure)
        else row_of(m, encoded, times.get(m.name), first, bounds.get(m.name), **probes.get(m.name, {}))
        for m in models
    ]
    this_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    together = sum(row.peak_rss_bytes for row in rows)
    in_passes = max((row.pass_peak_rss_bytes or 0 for row in rows), default=0)
    doubts = [*measurement.doubts, *doubts, *faster_than_possible(rows)]
    peak, seconds = this_process + max(together, in_passes), time.monotonic() - begun
    return MeasuredRows(rows, measurement, peaks, doubts, seconds, peak)


def probe(job: Job, model: Model) -> dict[str, Any]:
    """The fields of a row that say whether `model` is INT8, and whether its answers depend on their batch."""
    job.events(Progress(f"probing {model.name}"))
    try:
        return {"probes": job.evaluator.probe(model.candidate)}
    except OptkitError as error:
        job.events(Note(f"{model.name}: {error}"))
        return {"verdict": "error", "reasons": [f"It failed while probed: {error.whole}"]}


def judge(job: Job, gate: Gate, rows: Sequence[Row], candidates: Collection[str]) -> list[Row]:
    """`rows` with their verdicts; the first two are the baselines."""
    first, second = rows[:2]
    judged = []
    for row in rows:
        if row.verdict != "error" and row.name in candidates:
            reasons = gate.reasons(row, first, second)
            row = replace(row, verdict="failed" if reasons else "passed", reasons=reasons)
        elif row.verdict != "error":
            row = replace(row, verdict="baseline" if row in (first, second) else "step")
        judged.append(row)
        job.events(RowDone(row))
    return judged


def _unused(name: str, models: Models) -> str:
    names = {model.name for model in models.values()}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in names)
