"""`Interval`: the one type for a value with its 95% interval: a time, a ratio, a change, a percentile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from optkit.report.reading import Number


@dataclass(frozen=True)
class Interval:
    """`value` with its 95% interval, in its unit; an end that is not known is NaN."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    value: Number
    low: Number
    high: Number
