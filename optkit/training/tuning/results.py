"""`StudyResult`: what a study found, as plain values; `study.json` is this, and the page is drawn from it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from optkit.training.tuning.lease import OWNER, Lease
from optkit.training.tuning.space import Space
from optkit.training.tuning.storage import shown
from optkit.training.tuning.study import Objective
from optkit.training.tuning.worker import ERROR, SKIPPED, in_words

if TYPE_CHECKING:
    import optuna


SCHEMA = "optkit.study/1"
#: Fewer complete trials say nothing about what mattered.
FEWEST = 5
_STATES = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed"}


@dataclass(frozen=True)
class TrialResult:
    """One trial. `values` are the objectives' ([] where it did not come so far), `curve` what it reported
    on the way (step → value), `notes` what its run left about itself."""

    number: int
    state: str
    parameters: dict[str, Any]
    values: list[float]
    curve: dict[int, float]
    seconds: float | None
    where: str
    error: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The parameters in words."""
        return in_words(self.parameters)


@dataclass(frozen=True)
class StudyResult:
    """`best` are the numbers of the best trial, or of all that no other beats in every objective.

    `importance`: objective → name → share (PED-ANOVA, Watanabe et al. 2023), of complete trials.
    """

    name: str
    storage: str
    sampler: str
    pruner: str
    objectives: list[Objective]
    space: dict[str, str]
    facts: dict[str, Any]
    trials: list[TrialResult]
    best: list[int]
    importance: dict[str, dict[str, float]]
    command: str = ""
    schema: str = SCHEMA

    def trial(self, number: int) -> TrialResult:
        return next(t for t in self.trials if t.number == number)

    @property
    def complete(self) -> list[TrialResult]:
        return [t for t in self.trials if t.state == "complete"]

    def count(self) -> str:
        """How the trials ended, in words."""
        states = [t.state for t in self.trials]
        said = [f"{states.count(s)} {s}" for s in dict.fromkeys(states)]
        return f"{len(states)} trials: {', '.join(said)}" if said else "no trial"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(
    study: optuna.Study,
    url: str,
    sampler: str,
    pruner: str,
    objectives: Sequence[Objective],
    space: Space,
    facts: dict[str, Any],
    command: str = "",
) -> StudyResult:
    """Read `study` as it stands; trials that were skipped are left out."""
    frozen = [t for t in study.get_trials(deepcopy=False) if SKIPPED not in t.user_attrs]
    trials = [trial_result(t) for t in frozen]
    finished = any(t.state == "complete" for t in trials)
    return StudyResult(
        study.study_name,
        shown(url),
        sampler,
        pruner,
        list(objectives),
        space.to_dict(),
        facts,
        trials,
        front(trials, objectives),
        {o.name: _importance(study, i, o) for i, o in enumerate(objectives)} if finished else {},
        command,
    )


def front(trials: Sequence[TrialResult], objectives: Sequence[Objective]) -> list[int]:
    """Numbers of the complete trials that no other beats in every objective; of equals the first."""
    signs = [-1 if o.maximize else 1 for o in objectives]
    costs = {t.number: tuple(s * v for s, v in zip(signs, t.values)) for t in trials if t.state == "complete"}

    def beaten(number: int) -> bool:
        cost = costs[number]
        return any(
            all(a <= b for a, b in zip(other, cost)) and (other != cost or n < number)
            for n, other in costs.items()
            if n != number
        )

    return [number for number in costs if not beaten(number)]


def trial_result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    """From Optuna's frozen trial."""
    owner = trial.user_attrs.get(OWNER)
    return TrialResult(
        trial.number,
        _STATES.get(trial.state.name, trial.state.name.lower()),
        dict(trial.params),
        list(trial.values or []) if trial.state.name == "COMPLETE" else [],
        dict(trial.intermediate_values),
        round(trial.duration.total_seconds(), 1) if trial.duration else None,
        str(Lease(**owner)) if owner else "",
        trial.user_attrs.get(ERROR, ""),
        {k: v for k, v in trial.user_attrs.items() if k in ("seconds", "notes")},
    )


def _importance(study: optuna.Study, index: int, objective: Objective) -> dict[str, float]:
    """{} where the trials are too few to say anything."""
    import optuna

    if sum(t.state == optuna.trial.TrialState.COMPLETE for t in study.get_trials(deepcopy=False)) < FEWEST:
        return {}
    sign = -1 if objective.maximize else 1  # the evaluator takes low for good
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return dict(
                optuna.importance.get_param_importances(study, target=lambda t: sign * t.values[index])
            )
        except (ValueError, RuntimeError, ZeroDivisionError):
            return {}
