"""The direction along which outputs are asked for their gradients."""

from __future__ import annotations

import pytest
import torch

from optkit.passes.pruning.gradients import _direction


@pytest.mark.parametrize("name", ["start_logits", "end_logits"])
def test_padding_has_no_share_of_a_softmax_over_tokens(name):
    """A change that is the same for all real tokens changes no answer, whatever lies behind them."""
    logits = torch.tensor([[-3.0, -4.0, -2.0, 9.0, 9.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    _direction({name: logits}, mask, torch.Generator().manual_seed(0)).backward()
    assert logits.grad[0, 3:].tolist() == [0, 0]
    assert logits.grad[0, :3].abs().max() > 0.1
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)
