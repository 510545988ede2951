"""`gentler`: where no candidate keeps the score, other settings of `quantize-static` are tried."""

from __future__ import annotations

import math

from optkit.benchmarking.evaluation import Failure, Model
from optkit.compression.chain import Models, attempt, first_of
from optkit.compression.job import Job
from optkit.compression.mixed_precision import Ranked, search
from optkit.compression.recipe import Recipe
from optkit.compression.sensitivity_ranking import ranked
from optkit.compression.store import Store
from optkit.core.artifact import Artifact
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
    source = _made(store, before)
    scores = _scores(models)
    if source is None or any(scores[name] >= needed for name in candidates):
        return [], set()

    def try_(step: Pass) -> float:
        failed = attempt(job, store, (*before, step), models, candidates)
        return -math.inf if failed else _scores(models)[candidates[-1]]

    def rank(step: Pass) -> list[Ranked]:
        job.events(Step("sensitivity scan", len(models) + 1, len(models) + 1))
        return ranked(job, store, step, source, _made(store, (*before, step)))

    first_try, model = len(candidates), models.get(store.keys(chain)[-1])
    score = scores[model.name] if isinstance(model, Model) else -math.inf
    trace = search(last, score, needed, try_, rank)
    scores = _scores(models)
    best = max(candidates, key=scores.__getitem__)
    for line in trace:
        job.events(Note(line))
    return trace, {name for name in candidates[first_try:] if name != best and scores[name] < needed}


def _scores(models: Models) -> dict[str, float]:
    """The score of each model; below all others where it failed."""
    return {m.name: -math.inf if isinstance(m, Failure) else m.answers.score for m in models.values()}


def _made(store: Store, chain: tuple[Pass, ...]) -> Artifact | None:
    """What `chain` made; None where it failed."""
    folder = store.folders(chain)[-1] if chain else None
    return Artifact.open(folder) if folder and folder.exists() else None
