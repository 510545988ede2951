"""The few SVG parts that all charts share: the frame, escaped text that fits, and axes."""

from __future__ import annotations

import math
import unicodedata
import zlib
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from optkit.report.charts.figures import clean

#: Font size of every label, in the user units of the drawing (1 unit is 1 px on a phone).
SIZE = 12


def frame(width: int, height: float, title: str, description: str, body: list[str]) -> Markup:
    """An accessible `<svg>`: its title and description are what a screen reader says."""
    key = f"c{zlib.crc32(f'{title} {width}'.encode('utf-8', 'replace')):08x}"
    return Markup(
        f'<svg class="w{width}" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
        f'role="img" aria-labelledby="{key}t {key}d"><title id="{key}t">{escape(clean(title))}</title>'
        f'<desc id="{key}d">{escape(clean(description))}</desc>{"".join(body)}</svg>'
    )


def text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> str:
    position = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {position} class="{style}">{escape(clean(content))}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def box(x1: float, x2: float, y: float, height: float, style: str) -> str:
    """A bar between two positions in either order; at least one unit wide, so that it is seen."""
    left, width = min(x1, x2), max(abs(x2 - x1), 1.0)
    return f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{style}"/>'


def width_of(content: str, size: float = SIZE) -> float:
    """An upper estimate of how wide `content` is drawn; there is no font to ask here."""
    return sum(_em(c) for c in content) * size


def fit(content: str, width: float) -> str:
    """`content`, cut with an ellipsis where it is wider than `width`."""
    content = " ".join(clean(content).split())
    if width_of(content) <= width:
        return content
    while content and width_of(content + "…") > width:
        content = content[:-1]
    return content + "…"


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.88 if character in "mwMW@%…" else 0.68 if character.isupper() else 0.57


@dataclass(frozen=True)
class Axis:
    """Maps values between `low` and `high` to positions between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(
        cls, values: list[float], start: float, end: float, log: bool = False, pad: float = 0.06
    ) -> Axis:
        """An axis that holds all `values` with some room on both sides."""
        low, high = min(values), max(values)
        if log:
            low, high = max(low, 1e-6), max(high, 1e-6)
            room = max((high / low) ** pad, 1.08)
            return cls(low / room, high * room, start, end, log=True)
        room = (high - low) * pad or abs(high) * 0.01 or 0.01
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        low, high, value = (math.log(max(v, 1e-9)) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the axis: 1, 2, 5 × 10ⁿ on a log axis that is long enough, else even steps."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
                ticks = [s * 10.0**p for p in powers for s in steps if self.low <= s * 10.0**p <= self.high]
                if 3 <= len(ticks) <= most:
                    return ticks
        raw = (self.high - self.low) / max(most - 1, 1)
        unit = 10 ** math.floor(math.log10(raw))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw)
        first = math.ceil(self.low / step)
        return [i * step for i in range(first, math.floor(self.high / step) + 1)]

    def labels(self, most: int = 6) -> list[tuple[float, str]]:
        """The ticks as they are written: as many decimals for all as the longest needs."""
        ticks = self.ticks(most)
        digits = max((len(f"{tick:.6g}".partition(".")[2]) for tick in ticks), default=0)
        return [(tick, f"{tick:,.6g}" if self.log else f"{tick:,.{digits}f}") for tick in ticks]


def axis_below(axis: Axis, top: float, bottom: float, caption: str, most: int = 6) -> list[str]:
    """Grid lines, tick labels that do not touch, and the caption under a horizontal axis."""
    parts, taken = [], -math.inf
    right = max(axis.start, axis.end) + 8
    for tick, label in axis.labels(most):
        x = axis.at(tick)
        parts.append(line(x, top, x, bottom, "grid"))
        half = width_of(label) / 2
        middle = min(max(x, half), right - half)
        if middle - half > taken + 6:
            parts.append(text(middle, bottom + 15, label, "muted", "middle"))
            taken = middle + half
    parts.append(text((axis.start + axis.end) / 2, bottom + 32, caption, "muted", "middle"))
    return parts
