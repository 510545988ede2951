"""Accuracy against latency, with the Pareto front: which models are worth choosing from."""

from __future__ import annotations

from dataclasses import dataclass

from optkit.report.charts.figures import headline, headline_shape, known, number, score, shape_name
from optkit.report.charts.svg import SIZE, Axis, axis_below, fit, frame, line, text, width_of
from optkit.report.model import Report, Row

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Point:
    """A row in the plane: milliseconds, score, and the 95% interval of the score's paired change."""

    row: Row
    ms: float
    score: float
    low: float
    high: float


def points(report: Report) -> list[Point]:
    """Every row that has both figures."""
    first = report.rows[0].score
    placed = []
    for row in report.rows:
        latency = headline(report, row)
        if latency is None or not (known(latency.p50_ms) and latency.p50_ms > 0 and known(row.score)):
            continue
        low = high = row.score
        if row.drop and known(row.drop.low) and known(row.drop.high) and known(first):
            low, high = first - row.drop.high, first - row.drop.low
        placed.append(Point(row, latency.p50_ms, row.score, low, high))
    return placed


def pareto(candidates: list[Point]) -> list[Point]:
    """The points that no other point beats in both latency and score, fastest first."""
    front: list[Point] = []
    for point in sorted(candidates, key=lambda p: (p.ms, -p.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def scatter(report: Report, width: int = 860, height: int = 400) -> str:
    """One mark per row; whiskers are the 95% interval of the paired change from the first row."""
    placed = points(report)
    if not placed:
        return ""
    left, right, top, bottom = 50.0, width - 14.0, 30.0, height - 44.0
    x = Axis.over([p.ms for p in placed], left, right, log=True, pad=0.12)
    y = Axis.over([v for p in placed for v in (p.low, p.high, p.score)], bottom, top, pad=0.1)
    caption = f"p50 latency in ms at {shape_name(*(headline_shape(report) or (0, 0)))}, log scale"
    body = axis_below(x, top, bottom, fit(caption, width - left), most=8 if width > 500 else 5)
    for tick, label in y.labels(6):
        body.append(line(left, y.at(tick), right, y.at(tick), "grid"))
        body.append(text(left - 6, y.at(tick) + 4, label, "muted", "end"))
    body.append(text(4, 14, fit(f"{report.metric} ↑, better is up and to the left", width - 8), "muted"))
    front = pareto(placed)
    body.append(_front(front, x, y, bottom, right))
    lines = _steps(front, x, y, bottom, right)
    lines += [(x.at(p.ms) - 3, y.at(p.high), x.at(p.ms) + 3, y.at(p.low)) for p in placed if p.high > p.low]
    body += [line(x.at(p.ms), y.at(p.low), x.at(p.ms), y.at(p.high), "whisker") for p in placed]
    marks = [(x.at(p.ms) - 7, y.at(p.score) - 7, x.at(p.ms) + 7, y.at(p.score) + 7) for p in placed]
    labels: list[Rect] = []
    for point in placed:
        here = (x.at(point.ms), y.at(point.score))
        name = fit(point.row.name, width * (0.34 if width > 500 else 0.44))
        rect = _place(here, width_of(name), (left, top, right, bottom), labels + marks, lines)
        labels.append(rect)
        body += _label(here, rect, name, "strong" if point.row.name == report.chosen else "")
    body += [mark(x.at(p.ms), y.at(p.score), p.row, report) for p in placed]
    spoken = "; ".join(f"{p.row.name}: {number(p.ms)} ms, {score(p.score)}" for p in placed)
    spoken += f". Not beaten in both: {', '.join(p.row.name for p in front)}."
    return frame(width, height, f"{report.metric} against latency", spoken, body)


def mark(x: float, y: float, row: Row, report: Report) -> str:
    """A shape per verdict, so that colour is never the only sign: square, disc, cross or ring."""
    if row.name == report.chosen and row.verdict != "failed":
        return (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" class="halo"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" class="mark {_style(row)}"/>'
        )
    if row.verdict == "baseline":
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" class="mark baseline"/>'
    if row.verdict == "failed":
        return f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" class="cross"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="mark {_style(row)}"/>'


def _style(row: Row) -> str:
    return row.verdict if row.verdict in ("passed", "failed", "baseline", "step") else "step"


def _front(front: list[Point], x: Axis, y: Axis, bottom: float, right: float) -> str:
    """Steps: at a given latency, the best score that can be had."""
    path = f"M{x.at(front[0].ms):.1f} {bottom:.1f}V{y.at(front[0].score):.1f}"
    path += "".join(f"H{x.at(p.ms):.1f}V{y.at(p.score):.1f}" for p in front[1:])
    return f'<path d="{path}H{right:.1f}" class="front"/>'


def _steps(front: list[Point], x: Axis, y: Axis, bottom: float, right: float) -> list[Rect]:
    """The front's lines as thin boxes, for labels to keep clear of."""
    boxes, low = [], bottom
    ends = [*(x.at(p.ms) for p in front[1:]), right]
    for point, end in zip(front, ends, strict=True):
        left, high = x.at(point.ms), y.at(point.score)
        boxes += [(left - 2, high, left + 2, low), (left, high - 2, end, high + 2)]
        low = high
    return boxes


def _place(
    here: tuple[float, float], width: float, inside: Rect, taken: list[Rect], lines: list[Rect]
) -> Rect:
    """The free spot for a label nearest to its mark: rings of candidates, the cheapest wins."""
    best, cost = (0.0, 0.0, 0.0, 0.0), float("inf")
    for ring in range(12, 340, 12):
        for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7)):
            cx, cy = here[0] + dx * ring, here[1] + dy * ring
            left = cx if dx > 0 else cx - width if dx < 0 else cx - width / 2
            left = min(max(left, inside[0] + 2), inside[2] - width)
            rect = (left, cy - SIZE * 0.75, left + width, cy + SIZE * 0.6)
            if rect[1] < inside[1] or rect[3] > inside[3]:
                continue
            price = (
                ring + 1000 * sum(_touch(rect, r) for r in taken) + 16 * sum(_touch(rect, r) for r in lines)
            )
            if price < cost:
                best, cost = rect, price
        if cost < ring:
            break
    return best


def _touch(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _label(here: tuple[float, float], rect: Rect, name: str, style: str) -> list[str]:
    x = min(max(here[0], rect[0]), rect[2])
    y = min(max(here[1], rect[1]), rect[3])
    far = (x - here[0]) ** 2 + (y - here[1]) ** 2 > 13**2
    leader = [line(here[0], here[1], x, y, "leader")] if far else []
    return [*leader, text(rect[0], rect[3] - SIZE * 0.35, name, f"on {style}")]
