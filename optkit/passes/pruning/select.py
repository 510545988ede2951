"""Which units of a sublayer stay, when their number is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optkit.passes.pruning.fit import Fit

if TYPE_CHECKING:
    import torch


#: Rounds in which neurons are taken out; after each the errors are computed anew.
ROUNDS = 64


def best(importance: np.ndarray, count: int) -> list[int]:
    """The `count` most important units, in their order; of equals the first."""
    return sorted(np.argsort(-importance, kind="stable")[:count].tolist())


def select(fit: Fit, units: int, count: int, importance: np.ndarray) -> list[int]:
    """Take units out, the least error first, where error is what remains after the others were refitted.

    For unit u it is w_u' (inv(X'X)_uu)⁻¹ w_u: optimal brain surgeon, for whole units (Hassibi and Stork
    1993; Kurtic et al. 2023). It says what the sublayer's output loses, `importance` (gradients) what the
    answer loses: their shares of the sublayer's total are added, as K-prune adds its two.
    """
    import torch

    width = (len(fit.gram) - 1) // units
    size = units * width
    ridge = fit.ridge * torch.eye(size + 1, dtype=fit.gram.dtype)
    inverse = torch.linalg.inv(fit.gram + ridge)[:size, :size]
    weight = fit.solved()[:size].clone()
    share = torch.as_tensor(importance, dtype=torch.float64) / max(float(importance.sum()), 1e-30)
    alive = torch.ones(units, dtype=torch.bool)
    per_round = 1 if width > 1 else max(1, (units - count) // ROUNDS)
    total = _errors(inverse, weight, alive, width)[alive].sum().clamp_min(1e-30)
    while (left := int(alive.sum())) > count:
        error = _errors(inverse, weight, alive, width) / total + share
        error[~alive] = torch.inf
        gone = error.argsort()[: min(per_round, left - count)]
        rows = (gone[:, None] * width + torch.arange(width)).reshape(-1)
        pull = inverse[:, rows] @ torch.linalg.inv(inverse[rows][:, rows])
        weight -= pull @ weight[rows]
        inverse -= pull @ inverse[rows]
        alive[gone] = False
        inverse[rows], inverse[:, rows], weight[rows] = 0.0, 0.0, 0.0
    return torch.nonzero(alive)[:, 0].tolist()


def _errors(inverse: torch.Tensor, weight: torch.Tensor, alive: torch.Tensor, width: int) -> torch.Tensor:
    """What each unit that is left would cost, (units,)."""
    import torch

    if width == 1:
        return (weight**2).sum(dim=1) / inverse.diagonal().clamp_min(1e-30)
    errors = torch.zeros(len(alive), dtype=weight.dtype)
    for unit in torch.nonzero(alive)[:, 0].tolist():
        part = slice(unit * width, (unit + 1) * width)
        errors[unit] = (weight[part] * torch.linalg.solve(inverse[part, part], weight[part])).sum()
    return errors
