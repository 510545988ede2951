"""What stands where a whole attention or FFN was cut away: the bias of its output projection.

The classes are made on first use, so that importing this module does not load torch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@cache
def bias_only_class() -> type:
    """`BiasOnly(linear)`: the output of `linear` for inputs of zero; its bias keeps its name."""
    import torch

    class BiasOnly(torch.nn.Module):
        def __init__(self, linear: torch.nn.Module) -> None:
            super().__init__()
            bias = linear.bias
            size = linear.weight.shape[1 if type(linear).__name__ == "Conv1D" else 0]
            self.out_features = size
            if bias is None:
                self.register_parameter("bias", None)
            else:
                self.bias = torch.nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zeros = x.new_zeros((*x.shape[:-1], self.out_features))
            return zeros if self.bias is None else zeros + self.bias

        def extra_repr(self) -> str:
            return f"out_features={self.out_features}, bias={self.bias is not None}"

    return BiasOnly


@cache
def absent_class() -> type:
    """`Absent(name, output, pair)`: no unit left. `output`, where given, is a child called `name`.

    Returns its first input (through `output`), for attention as a pair with None for the probabilities.
    """
    import torch

    class Absent(torch.nn.Module):
        is_absent = True

        def __init__(self, name: str | None, output: torch.nn.Module, pair: bool) -> None:
            super().__init__()
            self.child, self.pair = name, pair
            if name is not None:
                self.add_module(name, output)

        def forward(
            self, hidden_states: torch.Tensor | None = None, *_: object, **__: object
        ) -> torch.Tensor | tuple[torch.Tensor | None, None] | None:
            if self.child is not None:
                hidden_states = self.get_submodule(self.child)(hidden_states)
            return (hidden_states, None) if self.pair else hidden_states

    return Absent
