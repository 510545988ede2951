"""Charts with one lane per row: what each step changed, how samples spread, size and memory.

A lane has its name at the left and its value at the right of one line, and the drawing below, so
that no label can meet another however many rows there are, and a phone shows it at full size.
"""

from __future__ import annotations

from collections.abc import Callable

from optkit.report.charts.figures import (
    DASH,
    headline,
    headline_shape,
    known,
    megabytes,
    nothing_shown,
    number,
    score,
    shape_name,
    share,
    signed,
    step_before,
)
from optkit.report.charts.svg import Axis, axis_below, box, fit, frame, line, text, width_of
from optkit.report.model import Report, Row

WIDTH, LANE, TOP, SIDE = 360, 44, 4, 8
#: Dots drawn per lane; more would only darken the strip.
DOTS = 120


def waterfall_latency(report: Report) -> str:
    """From the latency of the row before to this row's: the length is what the step saved."""
    values = {id(row): x.p50_ms for row in report.rows if (x := headline(report, row)) and known(x.p50_ms)}
    axis = Axis(0, max([*values.values(), 1e-3]) * 1.02, SIDE, WIDTH - SIDE)
    said = f"p50 latency in ms, {shape_name(*(headline_shape(report) or (0, 0)))}"
    return _waterfall(
        report,
        *(values, axis, said, "ms", number),
        worse=lambda change: change > 0,
        sure=lambda row, before: before is not report.rows[0] or not nothing_shown(row.speedup),
        from_zero=True,
    )


def waterfall_score(report: Report) -> str:
    """From the score of the row before to this row's; the thin line is the 95% interval."""
    values = {id(row): row.score for row in report.rows if known(row.score)}
    every = [*values.values(), *(v for row in report.rows for v in _bounds(report, row))]
    if not every:
        return ""
    axis = Axis.over(every, SIDE, WIDTH - SIDE)
    said = f"{report.metric}, axis does not begin at 0"
    return _waterfall(
        report,
        *(values, axis, said, "", score),
        worse=lambda change: change < 0,
        sure=lambda row, before: row.drop is None or not row.drop.low <= 0 <= row.drop.high,
        from_zero=False,
    )


def distribution(report: Report, batch: int, tokens: int | str) -> str:
    """Every sample of every row at one shape: a dot each, a box from 25 to 75%, a line at the median."""
    samples = {}
    for row in report.rows:
        latency = row.at(batch, tokens)
        flat = [x for draw in (latency.samples_ms if latency else []) for x in draw if known(x) and x > 0]
        if flat:
            samples[id(row)] = sorted(flat)
    if not samples:
        return ""
    axis = Axis.over(
        [x for flat in samples.values() for x in (flat[0], flat[-1])], SIDE, WIDTH - SIDE, True, 0.03
    )

    def draw(row: Row, y: float) -> list[str]:
        flat = samples.get(id(row))
        if flat is None:
            return []
        low, middle, high = (axis.at(_quantile(flat, q)) for q in (0.25, 0.5, 0.75))
        style = _style(report, row)
        ends = line(axis.at(_quantile(flat, 0.05)), y + 9, axis.at(_quantile(flat, 0.95)), y + 9, "whisker")
        return [
            _strip(flat, axis, y),
            ends,
            box(low, high, y + 4, 10, f"box {style}"),
            line(middle, y + 1, middle, y + 17, "median"),
        ]

    said = {id(r): f"{number(_quantile(f, 0.5))} ms" for r in report.rows if (f := samples.get(id(r)))}
    title = f"Latency at batch {shape_name(batch, tokens)}"
    return _lanes(report, title, axis, "ms, log scale", lambda row: said.get(id(row), DASH), draw)


def size(report: Report) -> str:
    """Size on disk, as bars from zero."""
    return _bars(report, "Size on disk", {id(row): float(row.size_bytes) for row in report.rows})


def memory(report: Report) -> str:
    """Peak resident memory of the process that held the model, as bars from zero."""
    return _bars(report, "Peak memory", {id(row): float(row.peak_rss_bytes) for row in report.rows})


def _bars(report: Report, title: str, values: dict[int, float]) -> str:
    most = max(values.values(), default=0.0)
    if not most > 0:
        return ""
    axis = Axis(0, most / 1e6 * 1.02, SIDE, WIDTH - SIDE)
    first = values[id(report.rows[0])]

    def value(row: Row) -> str:
        size = values[id(row)]
        of_first = f" · {share(size / first, 0)}" if first and size and row is not report.rows[0] else ""
        return megabytes(size, " MB") + of_first

    def draw(row: Row, y: float) -> list[str]:
        size = values[id(row)]
        return [box(axis.at(0), axis.at(size / 1e6), y + 3, 12, f"bar {_style(report, row)}")] if size else []

    return _lanes(report, title, axis, "MB", value, draw)


def _waterfall(
    report: Report,
    values: dict[int, float],
    axis: Axis,
    caption: str,
    unit: str,
    write: Callable[[float | None], str],
    worse: Callable[[float], bool],
    sure: Callable[[Row, Row], bool],
    from_zero: bool,
) -> str:
    if not values:
        return ""
    lane_of = {id(row): i for i, row in enumerate(report.rows)}

    def start_of(row: Row) -> Row | None:
        before = step_before(report, row)
        return before if before is not None and id(before) in values else None

    def value(row: Row) -> str:
        here, before = values.get(id(row)), start_of(row)
        text = f"{write(here)} {unit}".strip() if here is not None else DASH
        if here is None or before is None:
            return text
        change = here - values[id(before)]
        return f"{text} ({signed(change) if not unit else _signed(change)})"

    def draw(row: Row, y: float) -> list[str]:
        here, before = values.get(id(row)), start_of(row)
        if here is None:
            return []
        parts = []
        bounds = [] if from_zero else _bounds(report, row)
        if before is None:
            begin = axis.at(0) if from_zero else axis.at(here)
            parts.append(box(begin, axis.at(here), y + 3, 12, "bar baseline"))
        else:
            begin = axis.at(values[id(before)])
            up = TOP + lane_of[id(before)] * LANE + 18 + 15
            parts.append(line(begin, up, begin, y + 3, "leader"))
            shown = "worse" if worse(here - values[id(before)]) else "better"
            style = shown if sure(row, before) else "unsure"
            parts.append(box(begin, axis.at(here), y + 3, 12, f"bar {style}"))
        if bounds:
            parts.append(line(axis.at(bounds[0]), y + 9, axis.at(bounds[1]), y + 9, "whisker"))
        parts.append(line(axis.at(here), y, axis.at(here), y + 18, "median"))
        return parts

    return _lanes(report, f"What each step changed: {caption.split(',')[0]}", axis, caption, value, draw)


def _lanes(
    report: Report,
    title: str,
    axis: Axis,
    caption: str,
    value: Callable[[Row], str],
    draw: Callable[[Row, float], list[str]],
) -> str:
    bottom = TOP + LANE * len(report.rows)
    body = axis_below(axis, TOP, bottom, fit(caption, WIDTH), most=6)
    drawn, words = [], []
    for i, row in enumerate(report.rows):
        y, said = TOP + i * LANE, value(row)
        chosen = "strong" if row.name == report.chosen else ""
        name = fit(row.name, WIDTH - width_of(said) - 24)
        words += [
            text(0, y + 12, name, f"on {chosen}"),
            text(WIDTH, y + 12, said, f"on figure {chosen}", "end"),
        ]
        drawn += draw(row, y + 18)
    spoken = "; ".join(f"{row.name}: {value(row)}" for row in report.rows) + "."
    return frame(WIDTH, bottom + 40, title, spoken, body + drawn + words)


def _strip(flat: list[float], axis: Axis, y: float) -> str:
    """Evenly picked samples as dots, spread over the lane by a fixed pattern: the same file each time."""
    picked = [flat[i * len(flat) // min(len(flat), DOTS)] for i in range(min(len(flat), DOTS))]
    dots = "".join(f"M{axis.at(x):.1f} {y + 2 + (i * 7919 % 14):.0f}h0" for i, x in enumerate(picked))
    return f'<path d="{dots}" class="dots"/>'


def _quantile(flat: list[float], q: float) -> float:
    """Linear between neighbours, of a sorted list."""
    position = q * (len(flat) - 1)
    low = int(position)
    return flat[low] + (flat[min(low + 1, len(flat) - 1)] - flat[low]) * (position - low)


def _bounds(report: Report, row: Row) -> list[float]:
    first = report.rows[0].score
    if row.drop is None or not all(map(known, (row.drop.low, row.drop.high, first))):
        return []
    return [first - row.drop.high, first - row.drop.low]


def _signed(change: float) -> str:
    return f"+{number(change)}" if change > 0 else number(change)


def _style(report: Report, row: Row) -> str:
    return "chosen" if row.name == report.chosen and row.verdict != "failed" else "other"
