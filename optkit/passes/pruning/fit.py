"""`Fit`: the normal equations of one output projection, and their solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


#: Weight of the distance to the weights before, relative to the inputs' mean square.
RIDGE = 0.01
#: A scale beyond this means that the fit has gone wrong (Kwon et al.): the sublayer keeps its weights.
LARGEST_SCALE = 10.0


@dataclass(frozen=True)
class Fit:
    """`gram` = X'X and `cross` = X'Y over all tokens, `weight` as it is now, float64.

    X has one column per input of the projection and one of ones for the bias; Y is what the projection
    should give. `weight` is (inputs + 1, outputs), its last row the bias (0 where `has_bias` is false).
    """

    gram: torch.Tensor
    cross: torch.Tensor
    weight: torch.Tensor
    has_bias: bool

    def only(self, rows: list[int]) -> Fit:
        """The same problem with these inputs alone."""
        return Fit(self.gram[rows][:, rows], self.cross[rows], self.weight[rows], self.has_bias)

    @property
    def ridge(self) -> torch.Tensor:
        return RIDGE * self.gram.diagonal().mean().clamp_min(1e-12)

    def solved(self) -> torch.Tensor:
        """The weights that come nearest to Y, kept near to `weight` where the data does not say."""
        return self.weight + _solve(self.gram, self.cross - self.gram @ self.weight, self.ridge)

    def scaled(self, units: int, width: int) -> torch.Tensor | None:
        """`weight` with the best factor per unit, the bias unchanged; None where one is unreasonable."""
        import torch

        size = units * width
        weight, gram = self.weight[:size], self.gram[:size, :size]
        missing = (self.cross - self.gram @ self.weight)[:size]
        product = (gram * (weight @ weight.T)).reshape(units, width, units, width).sum(dim=(1, 3))
        right = (weight * missing).reshape(units, width, -1).sum(dim=(1, 2))
        ridge = RIDGE * product.diagonal().mean().clamp_min(1e-12)
        scales = 1 + _solve(product, right[:, None], ridge)[:, 0]
        if not torch.isfinite(scales).all() or scales.abs().max() > LARGEST_SCALE:
            return None
        return torch.cat([weight * scales.repeat_interleave(width)[:, None], self.weight[size:]])


def _solve(gram: torch.Tensor, right: torch.Tensor, ridge: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), right)
