"""Prune a torch model in place: score its units, share out the budget, cut, refit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import PassError
from optkit.models.uneven.layout import Sublayer, sublayers
from optkit.models.uneven.surgery import record, shape_of
from optkit.passes.pruning import criteria
from optkit.passes.pruning.cost import TOKENS, costs
from optkit.passes.pruning.gradients import mask_gradients
from optkit.passes.pruning.refit import cut_and_refit
from optkit.passes.pruning.search import allocate, counts_allowed
from optkit.passes.pruning.select import best

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Plan:
    """What to remove and how; the fields are those of `optkit.passes.prune.Prune`."""

    share: float
    of: str = "flops"
    criterion: str = "kprune"
    refit: str = "projection"
    ffn_multiple: int = 16
    tokens: int = TOKENS
    seed: int = 0
    rounds: int = 1
    target: float | None = None
    precision: str = "fp32"
    threads: int | None = None

    def costs(self, places: Sequence[Sublayer]) -> list[np.ndarray]:
        return costs(places, self.of, self.tokens, self.precision, self.threads)


def prune(
    model: torch.nn.Module,
    plan: Plan,
    batches: Sequence[dict[str, torch.Tensor]],
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
) -> dict[str, Any]:
    """Prune `model` in place and write its shape into its config.

    `batches` are calibration feeds, torch tensors by name; they may be empty for the criteria magnitude
    and random without a refit. With several rounds each takes an equal share of what the one before left,
    with scores taken anew; refits always aim at the model as it came. Returns notes: shapes, shares. Raises
    PassError where the budget cannot be met, CheckpointError for an unknown architecture.
    """
    places = sublayers(model)
    before = shape_of(model)
    teacher = copy.deepcopy(model) if plan.refit != "none" else None
    progress("costs", 0.0)
    whole = sum(float(price[-1]) for price in plan.costs(places))
    goal = (1 - plan.share) * whole if plan.target is None else _checked(plan, whole)
    step, remaining, refitted = (goal / whole) ** (1 / plan.rounds), whole, 0
    for number in range(plan.rounds):
        budget = goal if number == plan.rounds - 1 else step * remaining

        def told(text: str, done: float, number: int = number) -> None:
            which = f", round {number + 1} of {plan.rounds}" if plan.rounds > 1 else ""
            progress(text + which, (number + done) / plan.rounds)

        refitted, remaining = _round(model, places, teacher, plan, budget, batches, told)
    record(model)
    return {
        "before": before,
        "after": shape_of(model),
        f"{plan.of}_removed": round(1 - remaining / whole, 4),
        f"{plan.of}_before": whole,
        f"{plan.of}_after": remaining,
        "refitted_sublayers": refitted,
    }


def _round(
    model: torch.nn.Module,
    places: Sequence[Sublayer],
    teacher: torch.nn.Module,
    plan: Plan,
    budget: float,
    batches: Sequence[dict[str, torch.Tensor]],
    progress: Callable[[str, float], None],
) -> tuple[int, float]:
    """Cut `places` down to `budget` once; how many were refitted to `teacher`, and the cost that is left."""
    prices = plan.costs(places)
    gradients: list[torch.Tensor] | None = None
    if plan.criterion in criteria.FROM_GRADIENTS:
        progress("gradients of the masks", 0.05)
        gradients = mask_gradients(
            model, places, batches, lambda done: progress("gradients of the masks", 0.05 + 0.4 * done)
        )
    importance = _importance(plan, places, prices, gradients)
    counts = allocate(
        [criteria.cumulative(i) for i in importance],
        prices,
        [
            counts_allowed(p.units, plan.ffn_multiple if p.kind == "ffn" else 1, min(p.minimum, p.units))
            for p in places
        ],
        budget,
    )
    if plan.criterion == "fisher" and gradients is not None:
        _rearrange(importance, gradients, counts)
    refitted = cut_and_refit(
        model,
        teacher,
        {p.name: n for p, n in zip(places, counts)},
        {p.name: i for p, i in zip(places, importance)},
        plan.refit,
        batches,
        reselect=plan.criterion == "kprune" and plan.refit == "projection",
        tick=lambda done: progress("refitting", 0.5 + 0.45 * done),
    )
    return refitted, sum(float(price[n]) for price, n in zip(prices, counts))


def _checked(plan: Plan, whole: float) -> float:
    """The absolute budget; PassError where the model is within it already."""
    assert plan.target is not None
    if plan.target >= whole:
        unit = {"latency": "ms", "flops": "FLOPs per token", "parameters": "parameters"}[plan.of]
        raise PassError(
            f"Nothing to prune: heads and FFN take {whole:.4g} {unit}, the target is {plan.target:.4g}.",
            hint="Give a smaller target, or a share.",
        )
    return plan.target


def _importance(
    plan: Plan, places: Sequence[Sublayer], prices: Sequence[np.ndarray], gradients: list[torch.Tensor] | None
) -> list[np.ndarray]:
    if gradients is None:
        if plan.criterion == "random":
            return criteria.random(places, prices, plan.seed)
        return [criteria.magnitude(p) for p in places]
    score = criteria.taylor if plan.criterion == "taylor" else criteria.fisher
    return [score(g) for g in gradients]


def _rearrange(
    importance: list[np.ndarray], gradients: Sequence[torch.Tensor], counts: Sequence[int]
) -> None:
    """Lift the units that the rearrangement keeps above all others of their sublayer."""
    for i, count in enumerate(counts):
        indices = criteria.rearranged(gradients[i], best(importance[i], count))
        importance[i] = importance[i].copy()
        importance[i][indices] += 1 + importance[i].max(initial=0.0)
