"""The time of one sublayer at several widths, measured in torch; between them it is interpolated."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from optkit.pruning.layout import Sublayer, in_features, out_features
from optkit.pruning.surgery import cut

#: Widths at which a sublayer is measured, as shares of its units.
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
#: Timed repetitions; the least counts, for other work on the machine only ever adds.
REPEATS = 15

_measured: dict[tuple[Any, ...], np.ndarray] = {}


def table(sublayer: Sublayer, tokens: int) -> np.ndarray:
    """Milliseconds for 0, 1, ... all units and one sequence of `tokens`. Shape (units + 1,).

    Projections and, for heads, scaled dot-product attention are timed. Sublayers of equal sizes share
    one measurement in this process. Never decreasing, and 0 for no units.
    """
    units = sublayer.units
    if not units:
        return np.zeros(1)
    sizes = [(in_features(m), out_features(m)) for m in [*sublayer.inputs, sublayer.output]]
    key = (sublayer.kind, units, tokens, *sizes)
    if key not in _measured:
        counts = sorted({max(1, round(share * units)) for share in SHARES})
        times = [_time(sublayer, count, tokens) for count in counts]
        line = np.interp(np.arange(units + 1), [0, *counts], [0.0, *times])
        _measured[key] = np.maximum.accumulate(line)
    return _measured[key]


def _time(sublayer: Sublayer, count: int, tokens: int) -> float:
    import torch

    layer = copy.deepcopy(sublayer.layer)
    smaller = Sublayer(sublayer.index, sublayer.kind, layer, sublayer.layout)
    cut(smaller, range(count))
    hidden = torch.randn(1, tokens, in_features(smaller.inputs[0]))
    state = torch.randn(1, tokens, in_features(smaller.output))
    size = getattr(layer.get_submodule(smaller.core), sublayer.layout.head_size, 1)
    best = float("inf")
    with torch.inference_mode():
        for repeat in range(REPEATS + 3):
            begun = time.perf_counter()
            for projection in smaller.inputs:
                projection(hidden)
            if sublayer.kind == "heads":
                heads = state.view(1, tokens, -1, size).transpose(1, 2)
                torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
            smaller.output(state)
            if repeat >= 3:
                best = min(best, time.perf_counter() - begun)
    return best * 1000
