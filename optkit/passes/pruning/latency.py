"""The time of one sublayer at several widths, measured in ONNX Runtime; between them it is interpolated.

In a process of its own, on this machine: another engine, machine or number of threads has another table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from optkit.core.process import Child
from optkit.models.uneven.layout import Sublayer, in_features, out_features

#: Widths at which a sublayer is measured, as shares of its units.
SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Block:
    """What a sublayer's time depends on: the `hidden` size it reads and writes, how many outputs each of its
    input projections has per unit, the inputs of its output projection per unit, the size of a head."""

    kind: str
    hidden: int
    projections: tuple[int, ...]
    width: int
    head_size: int

    @classmethod
    def of(cls, place: Sublayer) -> Block:
        outputs = [out_features(m) // place.units for m in place.inputs]
        parts = [size // place.stacked for size in outputs for _ in range(place.stacked)]
        size = getattr(place.layer.get_submodule(place.core), place.layout.head_size, 1)
        return cls(place.kind, in_features(place.inputs[0]), tuple(parts), place.width, size)


@dataclass(frozen=True)
class Conditions:
    """One sequence of `tokens`, in ONNX Runtime on `threads` (None: the library's choice)."""

    tokens: int
    precision: str = "fp32"
    threads: int | None = None


#: Longest table so far of each block: a sublayer with fewer units has the front of it.
_measured: dict[tuple[Block, Conditions], np.ndarray] = {}


def tables(places: Sequence[Sublayer], conditions: Conditions) -> list[np.ndarray]:
    """Milliseconds of each sublayer for 0, 1, ... all units. Shapes (units + 1,).

    Never decreasing, and 0 for no units. Sublayers of equal sizes share one measurement in this process.
    """
    most: dict[Block, int] = {}
    for sublayer in places:
        if sublayer.units:
            block = Block.of(sublayer)
            most[block] = max(sublayer.units, most.get(block, 0))
    missing = {b: n for b, n in most.items() if len(_measured.get((b, conditions), ())) <= n}
    if missing:
        counts = {b: sorted({max(1, round(share * n)) for share in SHARES}) for b, n in missing.items()}
        with Child("optkit.passes.pruning.latency_worker", conditions.threads) as child:
            times = child.call(
                "time",
                blocks=[[asdict(block), count] for block in missing for count in counts[block]],
                **asdict(conditions),
            )
        for block, units in missing.items():
            durations, times = times[: len(counts[block])], times[len(counts[block]) :]
            line = np.interp(np.arange(units + 1), [0, *counts[block]], [0.0, *durations])
            _measured[block, conditions] = np.maximum.accumulate(line)
    return [_measured[Block.of(p), conditions][: p.units + 1] if p.units else np.zeros(1) for p in places]
