"""Relations and hard labels, against their definitions."""

from __future__ import annotations

import pytest
import torch

from optkit.errors import RecipeError
from optkit.passes.distillation import loss
from optkit.passes.distillation.goal import _mapped


def test_relations_compare_attention_over_real_tokens_of_any_width():
    torch.manual_seed(0)
    own, its = torch.randn(1, 3, 4), torch.randn(1, 3, 8)
    mask = torch.tensor([[1, 1, 0]])
    total = 0.0
    for head in range(4):  # the largest number of heads that divides 4 and 8
        a, b = own[0, :2, head : head + 1], its[0, :2, 2 * head : 2 * head + 2]
        found, target = torch.log_softmax(a @ a.T, -1), torch.log_softmax(b @ b.T / 2**0.5, -1)
        total += float((target.exp() * (target - found)).sum(-1).mean()) / 4
    assert float(loss.relations([own], [its], mask)) == pytest.approx(total, rel=1e-5)
    assert float(loss.relations([its], [its], mask)) == pytest.approx(0.0, abs=1e-6)


def test_hard_labels_pass_over_texts_without_one():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    expected = torch.nn.functional.cross_entropy(logits[:2], torch.tensor([0, 1]))
    assert float(loss.hard_labels(logits, torch.tensor([0, 1, -1]))) == pytest.approx(float(expected))
    assert float(loss.hard_labels(logits, torch.tensor([-1, -1, -1]))) == 0.0


def test_layers_are_mapped_evenly_or_as_told():
    assert _mapped(3, 6, ()) == ([0, 1, 2, 3], [0, 2, 4, 6])
    assert _mapped(2, 6, (1, 6)) == ([0, 1, 2], [0, 1, 6])
    for wrong in ((1,), (1, 7)):
        with pytest.raises(RecipeError, match="layers 1 to 6 for each"):
            _mapped(2, 6, wrong)


def test_values_per_token_leave_padding_out_and_those_per_text_do_not():
    student, teacher = torch.tensor([[1.0, 9.0], [2.0, 4.0]]), torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    mask = torch.tensor([[1, 0], [1, 1]])
    assert float(loss.values(student, teacher, mask)) == pytest.approx((1 + 0 + 4) / 3)
    assert float(loss.values(student, teacher)) == pytest.approx((1 + 81 + 0 + 4) / 4)
