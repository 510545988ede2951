"""What a sublayer costs at each number of units: FLOPs, parameters, or measured time."""

from __future__ import annotations

import numpy as np

from optkit.pruning.layout import Sublayer, in_features, out_features

#: Tokens of the sequence for which FLOPs are counted and time is measured, unless another is given.
TOKENS = 128


def costs(sublayer: Sublayer, of: str, tokens: int = TOKENS) -> np.ndarray:
    """The cost of keeping 0, 1, ... all units. Shape (units + 1,).

    `of` is "flops" (per token; two per multiply-add, attention over `tokens` included), "parameters", or
    "latency" (milliseconds for one sequence of `tokens`, from a table measured in torch on this machine).
    """
    if of == "latency":
        from optkit.pruning.latency import table

        return table(sublayer, tokens)
    return np.arange(sublayer.units + 1) * _per_unit(sublayer, of, tokens)


def _per_unit(sublayer: Sublayer, of: str, tokens: int) -> float:
    if not sublayer.units:
        return 0.0
    weights = sum(in_features(m) * out_features(m) for m in sublayer.inputs)
    weights += in_features(sublayer.output) * out_features(sublayer.output)
    if of == "parameters":
        biases = sum(out_features(m) for m in sublayer.inputs if m.bias is not None)
        return (weights + biases) / sublayer.units
    products = 4 * tokens * sublayer.width if sublayer.kind == "heads" else 0  # QK' and PV
    return 2 * weights / sublayer.units + products
