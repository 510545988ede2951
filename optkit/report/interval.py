"""`Interval`: the one type for a value with its 95% interval: a time, a ratio, a change, a percentile."""

from __future__ import annotations

from dataclasses import dataclass

from optkit.report.reading import Closed, Number


@dataclass(frozen=True)
class Interval(Closed):
    """`value` with its 95% interval, in its unit; an end that is not known is NaN."""

    value: Number
    low: Number
    high: Number
