"""Scores, search and refit, on small random models of every architecture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optkit.errors import PassError
from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import cut
from optkit.passes.pruning import criteria
from optkit.passes.pruning.cost import costs
from optkit.passes.pruning.gradients import mask_gradients
from optkit.passes.pruning.masks import masked
from optkit.passes.pruning.prune import Plan, prune
from optkit.passes.pruning.search import allocate, counts_allowed
from tests.passes.pruning.models import ALL, build, feeds


@pytest.mark.parametrize("kind", ALL)
def test_every_architecture_is_pruned_and_refitted(kind):
    import torch

    model = build(kind)
    batches = [feeds(kind) for _ in range(2)]
    notes = prune(model, Plan(0.4), batches)
    assert 0.4 <= notes["flops_removed"] < 0.6
    assert notes["refitted_sublayers"] > 0
    assert getattr(model.config, CONFIG_KEY) == notes["after"]
    with torch.inference_mode():
        assert torch.isfinite(model(**feeds(kind)).logits).all()


def test_a_gradual_schedule_ends_at_the_same_budget():
    model = build("bert")
    lines = []
    notes = prune(
        model, Plan(0.5, rounds=3), [feeds("bert")] * 2, lambda text, done: lines.append((text, done))
    )
    assert 0.5 <= notes["flops_removed"] < 0.6
    assert notes["before"]["ffn"] == [48] * 3
    assert [f"round {n} of 3" in " ".join(text for text, _ in lines) for n in (1, 2, 3)] == [True] * 3
    assert [done for _, done in lines] == sorted(done for _, done in lines)


@pytest.mark.parametrize("kind", ["bert", "vit", "llama", "dinov2"])
def test_nothing_changes_where_only_dead_units_are_cut(kind):
    """Units that give nothing go first, and the refit then has nothing to make up for."""
    import torch

    model = build(kind)
    with torch.no_grad():
        for place in sublayers(model):
            half = place.units // 2 * place.width
            weight = place.output.weight
            weight[:, :half] = 0.0
        expected = model(**feeds(kind)).logits
    plan = Plan(0.45, ffn_multiple=8)
    prune(model, plan, [feeds(kind)])
    with torch.no_grad():
        assert (model(**feeds(kind)).logits - expected).abs().max() < 1e-3


def test_gradients_are_those_of_each_example_alone():
    import torch

    model, batch = build("bert"), feeds("bert")
    places = sublayers(model)
    together = mask_gradients(model, places, [batch])
    assert [tuple(g.shape) for g in together] == [(3, p.units) for p in places]
    assert all(p.requires_grad for p in model.parameters())
    # By finite differences: the change of the same direction when one unit's mask moves.
    step = 1e-2
    masks = {p: torch.ones(3, p.units) for p in places}
    place = places[1]
    values = []
    for sign in (1, -1):
        masks[place] = torch.ones(3, place.units)
        masks[place][1, 5] += sign * step
        with torch.no_grad(), masked(masks):
            values.append(model(**batch).logits)
    change = (values[0] - values[1]) / (2 * step)
    assert change[0].abs().max() == 0
    assert change[2].abs().max() == 0
    direction = float(together[1][1, 5])
    assert abs(direction) <= float(change[1].norm()) * 2


def test_the_search_is_the_best_of_all_choices():
    random = np.random.default_rng(0)
    gains = [np.concatenate([[0], np.cumsum(random.uniform(size=4))]) for _ in range(3)]
    prices = [np.arange(5) * p for p in (1.0, 2.0, 1.5)]
    allowed = [counts_allowed(4, 1), counts_allowed(4, 2), counts_allowed(4, 1, minimum=1)]
    found = allocate(gains, prices, allowed, 8.0)
    worth = {
        choice: sum(g[n] for g, n in zip(gains, choice))
        for choice in itertools.product(*allowed)
        if sum(p[n] for p, n in zip(prices, choice)) <= 8.0
    }
    assert worth[tuple(found)] == pytest.approx(max(worth.values()))


def test_a_budget_below_the_minimum_is_refused():
    with pytest.raises(PassError, match="at least 25"):
        allocate([np.arange(5.0)], [np.arange(5.0)], [counts_allowed(4, 1, minimum=1)], 0.5)


def test_the_rearrangement_lowers_the_joint_loss():
    import torch

    gradients = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    gradients[:, 6:] = -gradients[:, :6] + 0.01 * gradients[:, 6:]  # each unit has one that makes up for it

    def loss(kept):
        gone = [i for i in range(12) if i not in kept]
        return float(gradients[:, gone].sum(dim=1).square().mean())

    kept = [0, 1, 2, 3, 10, 11]
    found = criteria.rearranged(gradients, kept)
    assert len(found) == 6
    assert loss(found) < 0.5 * loss(kept)


def test_costs_are_those_of_the_cut_model():
    model = build("bert")
    place = sublayers(model)[1]
    (price,) = costs([place], "parameters")
    assert price[-1] == 48 * (32 + 1 + 32)
    cut(place, range(10))
    assert costs([place], "parameters")[0][-1] == price[10]
    heads = sublayers(model)[0]
    assert costs([heads], "flops", 128)[0][-1] == 2 * 4 * 32 * 32 + 4 * 128 * 32
