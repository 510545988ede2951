"""Prune a torch model in place: score its units, share out the budget, cut, refit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.pruning import criteria
from optkit.pruning.cost import TOKENS, costs
from optkit.pruning.gradients import mask_gradients
from optkit.pruning.layout import Sublayer, sublayers
from optkit.pruning.refit import cut_and_refit
from optkit.pruning.search import allocate, counts_allowed
from optkit.pruning.select import best
from optkit.pruning.surgery import record, shape_of


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


def prune(
    model: Any,
    plan: Plan,
    batches: Sequence[dict[str, Any]],
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
) -> dict[str, Any]:
    """Prune `model` in place and write its shape into its config.

    `batches` are calibration feeds, torch tensors by name; they may be empty for the criteria magnitude
    and random without a refit. Returns notes: shapes, shares. Raises PassError where the budget cannot
    be met, CheckpointError for an unknown architecture.
    """
    places = sublayers(model)
    before = shape_of(model)
    prices = [costs(p, plan.of, plan.tokens) for p in places]
    whole = sum(float(price[-1]) for price in prices)
    gradients: list[Any] | None = None
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
        (1 - plan.share) * whole,
    )
    if plan.criterion == "fisher" and gradients is not None:
        _rearrange(importance, gradients, counts)
    named = {p.name: i for p, i in zip(places, importance)}
    refitted = cut_and_refit(
        model,
        {p.name: n for p, n in zip(places, counts)},
        named,
        plan.refit,
        batches,
        reselect=plan.criterion == "kprune" and plan.refit == "projection",
        tick=lambda done: progress("refitting", 0.5 + 0.45 * done),
    )
    record(model)
    kept = sum(float(price[n]) for price, n in zip(prices, counts))
    return {
        "before": before,
        "after": shape_of(model),
        f"{plan.of}_removed": round(1 - kept / whole, 4),
        "refitted_sublayers": refitted,
    }


def _importance(
    plan: Plan, places: Sequence[Sublayer], prices: Sequence[np.ndarray], gradients: list[Any] | None
) -> list[np.ndarray]:
    if gradients is None:
        if plan.criterion == "random":
            return criteria.random(places, prices, plan.seed)
        return [criteria.magnitude(p) for p in places]
    score = criteria.taylor if plan.criterion == "taylor" else criteria.fisher
    return [score(g) for g in gradients]


def _rearrange(importance: list[np.ndarray], gradients: Sequence[Any], counts: Sequence[int]) -> None:
    """Lift the units that the rearrangement keeps above all others of their sublayer."""
    for i, count in enumerate(counts):
        kept = criteria.rearranged(gradients[i], best(importance[i], count))
        importance[i] = importance[i].copy()
        importance[i][kept] += 1 + importance[i].max(initial=0.0)
