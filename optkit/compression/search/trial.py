"""One trial: run its chain, leave early where the gate is out of reach, measure beside the baseline."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna import Trial, TrialPruned

from optkit.benchmarking.evaluation import Model
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.results import row_of
from optkit.benchmarking.targets import EAGER
from optkit.compression import choice
from optkit.compression.chain import apply, baselines, candidate, probe, score
from optkit.compression.job import Job
from optkit.compression.refusals import check
from optkit.compression.store import Store
from optkit.core.artifact import Artifact
from optkit.core.locks import locked
from optkit.errors import CheckpointError, DataError, PassError, WorkerError
from optkit.events import Step
from optkit.passes.base import Pass
from optkit.report.interval import Interval
from optkit.report.model import Row, quality
from optkit.training.tuning.study import Objective

#: What may be made small beside the score, and how it is shown.
COSTS = {
    "latency": Objective("time", False, "share of fp32 ONNX Runtime's, measured beside it"),
    "size": Objective("size", False, "MB"),
    "memory": Objective("peak memory", False, "MB"),
}
#: Sizes and peaks that are this much apart count as equal, and the faster model is taken.
ALIKE = 0.01
#: A trial's attribute: what its run left about itself.
NOTES = "notes"


@dataclass(frozen=True)
class Outcome:
    """What a trial tells the study of itself. `cost` is the second objective's value."""

    score: float
    cost: float | None
    drop: Interval | None
    feasible: bool
    folder: str
    steps: list[str]
    speedup: Interval | None = None
    size_bytes: int = 0
    doubts: tuple[str, ...] = ()


def run_trial(
    job: Job, store: Store, gate: Gate, objective: str, chain: tuple[Pass, ...], trial: Trial
) -> list[float]:
    """[score or agreement, cost] of `chain`.

    How it came about is left in the trial's notes, its gate as constraints. Raises TrialPruned where the gate
    is out of reach, and PassError where a pass refuses the model or the data: the fault of this chain, which
    others need not share. What is wrong with the checkpoint itself is raised as it is.
    """
    with _as_its_own_fault():
        check(job, [chain])
    first, second = baselines(job, store).values()
    assert isinstance(first, Model)
    assert isinstance(second, Model)
    steps = [step.name() for step in chain]
    models: list[Model] = []
    try:
        with _as_its_own_fault():
            for model in chain_models(job, store, chain, f"trial {trial.number}"):
                models.append(model)
                require_hope(gate, model, first)
            if gate.batch_invariant:
                require_invariance(job, model, first)
    except TrialPruned:
        last = models[-1]
        _note(trial, Outcome(quality(last.answers), None, last.answers.drop, False, _folder(last), steps))
        raise
    row, doubts = row_of(model, job.evaluator.labelled.encoded), []
    if objective == "latency":
        with locked(timing_turn()):
            measurement = job.evaluator.measure([second, model])
        timed = measurement[model.name], measurement[second.name]
        row, doubts = row_of(model, job.evaluator.labelled.encoded, *timed), measurement.doubts
    cost = cost_of(row, objective)
    allowed = gate.allowed_drop(first.answers.score)
    if allowed is not None:
        trial.set_constraint("drop", first.answers.score - row.score - allowed)
    if gate.min_agreement is not None:
        trial.set_constraint("agreement", gate.min_agreement - row.fidelity.get("agreement_low", 0.0))
    asked = Gate(gate.max_drop, gate.relative, min_agreement=gate.min_agreement)
    feasible = not asked.reasons(row, first.answers)
    _note(
        trial,
        Outcome(
            *(quality(row), cost, row.drop, feasible, _folder(model), steps),
            *(row.speedup, row.size_bytes, tuple(doubts)),
        ),
    )
    return [quality(row), cost]


def chain_models(job: Job, store: Store, chain: tuple[Pass, ...], title: str) -> Iterator[Model]:
    """Run `chain`; what its last training pass made, where that runs now, then its result, named `title`."""
    keys, folders = store.keys(chain), store.folders(chain)
    artifact, parent = job.source, EAGER
    if not folders[-1].exists():
        # What came before the last step that is there may have been deleted, and is not needed.
        begin = max((i for i, folder in enumerate(folders) if folder.exists()), default=0)
        for i, step in enumerate(chain[begin:], begin):
            name = f"{title}: {step.name()}"
            job.events(Step(name))
            artifact = apply(job, step, artifact, folders[i])
            if artifact.format == "hf" and chain[i + 1 :] and chain[i + 1].produces != "hf":
                parent = name
                yield score(job, store, candidate(job, name, artifact), keys[i], EAGER)
    result = candidate(job, title, Artifact.open(folders[-1]))
    yield score(job, store, result, keys[-1], parent)


def require_hope(gate: Gate, model: Model, first: Model) -> None:
    """TrialPruned where even the lower end of the drop's 95% interval is more than the gate allows: what
    follows does not raise the score."""
    answers, name = model.answers, model.name.rpartition(": ")[2]
    allowed = gate.allowed_drop(first.answers.score)
    if allowed is not None and answers.drop and answers.drop.low > allowed:
        shown = f"{answers.drop.value:.4f}, at least {answers.drop.low:.4f}"
        raise TrialPruned(f"the score of {name} drops by {shown}; allowed is {allowed:.4f}")
    least, high = gate.min_agreement, answers.fidelity.get("agreement_high", math.inf)
    if least is not None and high < least:
        raise TrialPruned(f"at most {high:.4f} of the answers of {name} are the same; asked are {least:.4f}")


def require_invariance(job: Job, model: Model, first: Model) -> None:
    """TrialPruned where answers of `model` depend on their batch."""
    probes = probe(job, model) if model.answers.precision == "int8" else {}
    row = row_of(model, job.evaluator.labelled.encoded, **probes)
    if row.verdict == "error":
        raise WorkerError(f"{row.name}: {' '.join(row.reasons)}")
    for reason in Gate(max_drop=None, batch_invariant=True).reasons(row, first.answers):
        raise TrialPruned(reason)


def choose(
    rows: list[Row], candidates: list[str], objective: str, shapes: tuple[str, ...], measurement: Measurement
) -> tuple[Row | None, str]:
    """Of what passed the smallest by `objective`, of those within `ALIKE` the fastest; and why."""
    tied = choice.tied_in(measurement)
    passed = [r for r in rows if r.name in candidates and r.verdict == "passed"]
    if objective == "latency" or not passed:
        chosen = choice.choose(rows, candidates, shapes, tied)
        return chosen, choice.why(chosen, rows, candidates, shapes)
    most = min(cost_of(row, objective) for row in passed) * (1 + ALIKE)
    near = [row.name for row in passed if cost_of(row, objective) <= most]
    chosen = choice.choose(rows, near, shapes, tied)
    assert chosen is not None
    return chosen, (
        f"{chosen.name} is smallest by {objective} of the candidates that passed; of those within "
        f"{ALIKE:.0%} of it none is better in both score and time."
    )


def timing_turn() -> Path:
    """The lock under which a user's processes take turns: two timings at once would measure each other."""
    return Path(tempfile.gettempdir()) / f"optkit-timing-{os.getuid()}"


def cost_of(row: Row, objective: str) -> float:
    """What the second objective makes small. WorkerError where it is time and `row` has none."""
    if objective == "latency":
        if row.speedup is None:
            raise WorkerError(f"{row.name} could not be timed: {'; '.join(row.reasons) or 'no samples'}.")
        return 1 / row.speedup.value
    return (row.size_bytes if objective == "size" else row.peak_rss_bytes) / 1e6


@contextmanager
def _as_its_own_fault() -> Iterator[None]:
    """A pass that does not suit this model or its data fails its trial alone."""
    try:
        yield
    except (CheckpointError, DataError) as error:
        raise PassError(str(error), hint=error.hint) from error


def _note(trial: Trial, outcome: Outcome) -> None:
    trial.set_user_attr(NOTES, asdict(outcome))


def _folder(model: Model) -> str:
    return Path(model.candidate.artifact).name
