"""The tables below the charts in HTML: every percentile, scenario, start and step."""

from __future__ import annotations

import json

from optkit.report.charts import figures, parts
from optkit.report.charts.figures import DASH
from optkit.report.interval import Interval
from optkit.report.model import Report


def latency(report: Report) -> str:
    heads = (
        *("Batch × tokens", "Model", "p50 ms [95%]", "p90 ms [95%]", "p99 ms [95%]"),
        *("speedup [95%]", "of bound", "padding", "samples"),
    )
    lines = []
    for shape in figures.shapes(report):
        for row in report.rows:
            if (x := row.at(*shape)) is None:
                continue
            cells = [
                parts.text(row.name),
                _percentile(x.p50_ms, x.p50),
                _percentile(x.p90_ms, x.p90),
                _percentile(x.p99_ms, x.p99),
                f"{figures.speedup(x.speedup)} {figures.speed_note(x.speedup)}",
                DASH if x.bound_share is None else f"{x.bound_share:.0%}",
                figures.share(x.padding),
                f"{sum(map(len, x.samples_ms))} in {len(x.samples_ms)}",
            ]
            lines.append((parts.text(figures.shape_name(*shape)), cells))
    return (
        parts.details(
            "All percentiles, and the share of the machine's measured peak",
            parts.table("Latency", heads, lines),
        )
        if lines
        else ""
    )


def scenarios(report: Report) -> str:
    """Grouped by scenario, so that what compares stands together."""
    heads = ("Scenario", "Model", "result", "queries", "seconds", "what was measured")
    results = [(x, row.name) for row in report.rows for x in row.scenarios]
    names = list(dict.fromkeys(x.scenario for x, _ in results))
    lines = [
        (
            parts.text(x.scenario),
            [
                parts.text(model),
                figures.number(x.value, 4),
                parts.text(x.queries),
                figures.number(x.seconds),
                f"<span class='wrap'>{parts.text(f'{x.metric}; {x.notes}' if x.notes else x.metric)}</span>",
            ],
        )
        for x, model in sorted(results, key=lambda pair: names.index(pair[0].scenario))
    ]
    return parts.table("Scenarios", heads, lines) if lines else ""


def memory(report: Report) -> str:
    """What a fresh process of each model needs before and while it answers."""
    heads = ("Model", "load ms", "first answer ms", "MB after loading", "MB at the peak", "MiB on the GPU")
    lines = [
        (
            parts.text(row.name),
            [
                figures.number(row.load_ms),
                figures.number(row.cold_ms),
                *map(figures.megabytes, (row.load_rss_bytes, row.peak_rss_bytes)),
                figures.number(row.gpu.get("process_memory_mib")),
            ],
        )
        for row in report.rows
    ]
    on_gpu = any(row.gpu for row in report.rows)
    width = len(heads) if on_gpu else len(heads) - 1
    return parts.table(
        "Start and memory", heads[:width], [(name, cells[: width - 1]) for name, cells in lines]
    )


def steps(report: Report) -> str:
    """What each pass took and noted; nothing for models that were only measured."""
    if not any(row.notes or row.seconds for row in report.rows):
        return ""
    heads = ("Model", "pass took, s", "pass peak MB", "artifact", "notes")
    lines = [
        (
            parts.text(row.name),
            [
                figures.number(row.seconds or None),
                figures.megabytes(row.pass_peak_rss_bytes),
                f"<code>{parts.text(row.artifact)}</code>",
                f"<code>{parts.text(json.dumps(row.notes, ensure_ascii=False, default=str))}</code>"
                if row.notes
                else DASH,
            ],
        )
        for row in report.rows
    ]
    return parts.table("Steps", heads, lines)


def _percentile(value: float, bounds: Interval | None) -> str:
    return f"{figures.number(value)}<small>{figures.bounds(bounds)}</small>"
