"""What a sublayer costs at each number of units: FLOPs, parameters, or measured time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optkit.models.uneven.layout import Sublayer, in_features, out_features
from optkit.passes.pruning.latency import Conditions, tables

#: Tokens of the sequence for which FLOPs are counted and time is measured, unless another is given.
TOKENS = 128


def costs(
    places: Sequence[Sublayer],
    of: str,
    tokens: int = TOKENS,
    precision: str = "fp32",
    threads: int | None = None,
) -> list[np.ndarray]:
    """For each of `places` the cost of keeping 0, 1, ... all units. Shapes (units + 1,).

    `of` is "flops" (per token; two per multiply-add, attention over `tokens` included), "parameters", or
    "latency" (milliseconds for one sequence of `tokens` in ONNX Runtime, measured on this machine in
    `precision`, on `threads`).
    """
    if of == "latency":
        return tables(places, Conditions(tokens, precision, threads))
    return [np.arange(sublayer.units + 1) * _per_unit(sublayer, of, tokens) for sublayer in places]


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
