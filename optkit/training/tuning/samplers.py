"""What proposes the next trial, and what stops one: Optuna's samplers and pruners by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import optuna
from optuna.samplers import BaseSampler, CmaEsSampler

from optkit.errors import MissingDependency, RecipeError, did_you_mean
from optkit.training.tuning.space import Space

if TYPE_CHECKING:
    import cmaes
    import optuna.distributions
    import optuna.trial
    from optuna._transform import _SearchSpaceTransform


#: Samplers for one objective, and for several.
SAMPLERS = ("tpe", "random", "grid", "cmaes")
MULTI_SAMPLERS = ("tpe", "random", "grid", "nsga2")
PRUNERS = ("median", "hyperband", "none")
#: Trials that run to their end before the median of anything is compared with.
STARTUP = 4


def make_sampler(name: str, space: Space, seed: int, objectives: int = 1) -> BaseSampler:
    """A sampler whose proposal follows from `seed`, the trial's number and the trials finished before.

    Raises RecipeError for an unknown name and for CMA-ES in a space with fewer than two ranges.
    """
    known = SAMPLERS if objectives == 1 else MULTI_SAMPLERS
    if name not in known:
        raise RecipeError(
            f"Expected a sampler for {objectives} objective(s), received {name!r}.",
            hint=did_you_mean(name, known),
        )
    if name == "grid":
        points = {key: dimension.points() for key, dimension in space.dimensions.items()}
        return Grid(points, seed=seed)  # its order must not change with the trial
    if name == "cmaes":
        _check_cmaes(space)
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
        "cmaes": lambda seed: ReplayedCmaEs(seed=seed, warn_independent_sampling=False),
    }
    return SeededPerTrial(makers[name], seed)


def make_pruner(name: str, most_steps: int) -> optuna.pruners.BasePruner:
    """A pruner for trials that report at steps 1 to `most_steps`."""
    if name not in PRUNERS:
        raise RecipeError(f"Unknown pruner {name!r}.", hint=did_you_mean(name, PRUNERS))
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    if name == "hyperband":
        # A run of a few epochs has few rungs: halving, not the usual third, gives it two or three.
        return optuna.pruners.HyperbandPruner(max_resource=max(most_steps, 1), reduction_factor=2)
    return optuna.pruners.NopPruner()


class SeededPerTrial(BaseSampler):
    """A fresh sampler for each trial, seeded by the trial's number.

    One generator for a whole process would propose the same trials in every process of a study, and
    the same ones again after a resume. So an interrupted study goes on as an uninterrupted one does.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        mixed = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]
        self._sampler = self._make(int(mixed) % 2**31)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, Any]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: optuna.distributions.BaseDistribution,
    ) -> object:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


class Grid(optuna.samplers.GridSampler):
    """Optuna's grid, whose end `Worker` sees for itself."""

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Optuna would stop its own loop here, which is not the one that runs."""


class ReplayedCmaEs(CmaEsSampler):
    """Optuna's CMA-ES without its pickles.

    Optuna keeps the optimizer's state in the study as a pickle, which would run code from a shared
    database. The state follows from the finished generations, so it is computed from them again.
    """

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        self._finished = self._get_trials(study)
        return super().sample_relative(study, trial, search_space)

    def _restore_optimizer(self, completed_trials: list[optuna.trial.FrozenTrial]) -> None:
        return None

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        return {}

    def _init_optimizer(
        self, trans: _SearchSpaceTransform, direction: optuna.study.StudyDirection
    ) -> cmaes.CMA:
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1 if direction == optuna.study.StudyDirection.MINIMIZE else -1
        while True:
            trials = self._get_solution_trials(self._finished, optimizer.generation)
            if len(trials) < optimizer.population_size:
                return optimizer
            told = [
                (trans.transform(t.params), sign * cast(float, t.value))
                for t in trials[: optimizer.population_size]
            ]
            optimizer.tell(told)


def _check_cmaes(space: Space) -> None:
    from importlib.util import find_spec

    if find_spec("cmaes") is None:
        raise MissingDependency.of("cmaes", "tune")
    if sum(dimension.is_range for dimension in space.dimensions.values()) < 2:
        raise RecipeError(
            "Expected at least two ranges of numbers for the sampler cmaes, received "
            + ", ".join(f"{name}={form}" for name, form in space.to_dict().items())
            + ".",
            hint="Choices are drawn at random beside it; take the sampler tpe for a space of choices.",
        )
