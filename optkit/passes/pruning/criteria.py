"""How much each unit matters: one function per criterion, (units,) per sublayer, larger is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.models.uneven.layout import Sublayer, is_transposed

if TYPE_CHECKING:
    import torch

#: Criteria that need the gradients of the masks.
FROM_GRADIENTS = ("taylor", "fisher", "kprune")
CRITERIA = (*FROM_GRADIENTS, "magnitude", "random")


def magnitude(place: Sublayer) -> np.ndarray:
    """Sum of the squared weights that a unit owns, in all projections (Li et al. 2017, squared)."""
    units = place.units
    if not units:
        return np.zeros(0)
    total = np.zeros(units)
    for module in place.inputs:
        weight = module.weight.detach().double().numpy()
        rows = weight.T if is_transposed(module) else weight
        per_unit = (rows**2).sum(axis=1).reshape(place.stacked, units, -1)
        total += per_unit.sum(axis=(0, 2))
    weight = place.output.weight.detach().double().numpy()
    rows = weight if is_transposed(place.output) else weight.T
    return total + (rows**2).sum(axis=1).reshape(units, -1).sum(axis=1)


def random(places: Sequence[Sublayer], prices: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """The control: uniform numbers, times a unit's cost, so that no kind of unit is preferred."""
    draw = np.random.default_rng(seed)
    return [draw.uniform(size=p.units) * (c[-1] / max(p.units, 1)) for p, c in zip(places, prices)]


def taylor(gradients: torch.Tensor) -> np.ndarray:
    """First order: the mean of |gradient × mask| over examples (Michel et al. 2019)."""
    return gradients.abs().double().mean(dim=0).numpy()


def fisher(gradients: torch.Tensor) -> np.ndarray:
    """Second order: the diagonal of the Fisher information (Kwon et al. 2022)."""
    return gradients.double().square().mean(dim=0).numpy()


def rearranged(gradients: torch.Tensor, kept: Sequence[int], swaps: int = 200) -> list[int]:
    """Swap kept and cut units while that lowers the norm of the cut units' summed gradients.

    That norm, over examples, has the off-diagonal terms of the Fisher information in it, within the
    sublayer (Kwon et al. 2022, section 4.2). The best single swap is taken, at most `swaps` times.
    """
    import torch

    units = gradients.shape[1]
    if not 0 < len(kept) < units:
        return list(kept)
    rows = gradients.double()
    information = rows.T @ rows / len(rows)
    stays = torch.zeros(units, dtype=torch.bool)
    stays[list(kept)] = True
    for _ in range(swaps):
        inside, outside = torch.nonzero(stays)[:, 0], torch.nonzero(~stays)[:, 0]
        pull = information[:, outside].sum(dim=1)
        diag = information.diagonal()
        # Cut `inside` unit j, restore `outside` unit i.
        change = (diag[outside] - 2 * pull[outside])[:, None] + (diag[inside] + 2 * pull[inside])[None]
        change = change - 2 * information[outside][:, inside]
        least = int(change.argmin())
        if change.flatten()[least] >= -1e-12 * float(diag.sum()):
            break
        stays[outside[least // len(inside)]] = True
        stays[inside[least % len(inside)]] = False
    return torch.nonzero(stays)[:, 0].tolist()


def cumulative(importance: np.ndarray) -> np.ndarray:
    """The importance kept with the 0, 1, ... best units. Shape (units + 1,)."""
    return np.concatenate([[0.0], np.cumsum(np.sort(importance)[::-1])])
