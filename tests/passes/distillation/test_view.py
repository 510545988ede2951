"""The queries, keys and values of a layer, as the student is compared by them."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers

from optkit.passes.distillation.goal import Goal
from optkit.passes.distillation.view import View, attention_of
from tests.passes.pruning.models import feeds, settings


@pytest.mark.parametrize("shared", [True, False])
def test_projections_of_positions_are_no_part_of_the_relations(shared):
    """With share_att_key, as in DeBERTa-v3, positions go through the projections of queries and keys too."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        "deberta-v2", **settings("deberta-v2"), share_att_key=shared, num_labels=3
    )
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    place, batch = attention_of(model), feeds("deberta-v2")
    entered = []
    place.inputs[2].register_forward_hook(lambda module, inputs, output: entered.append(inputs[0]))
    with torch.inference_mode():
        seen = View(model, (), place)(batch)
        expected = [projection(entered[0]) for projection in place.inputs[:3]]
    assert len(seen.attention) == 3
    assert all(torch.equal(a, b) for a, b in zip(seen.attention, expected))
    goal = Goal(copy.deepcopy(model), model, hidden=0.0, relations=1.0)
    with torch.inference_mode():
        told = vars(goal.teacher_view(batch))
    loss, _ = goal.loss(goal.student, batch, told, None)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)
