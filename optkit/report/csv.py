"""The report as CSV: one line per row and latency shape, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
import math
import re
from typing import Any

from optkit.core.reading import Json
from optkit.report.charts.figures import clean
from optkit.report.interval import Interval
from optkit.report.model import Latency, Report, Row

COLUMNS = (
    *("name", "runtime", "precision", "verdict", "chosen", "metric", "score", "score_delta"),
    *("drop", "drop_low", "drop_high", "agreement", "size_bytes", "load_rss_bytes", "peak_rss_bytes"),
    *("gpu_mib", "load_ms", "cold_ms", "seconds", "batch", "tokens"),
    *("p50_ms", "p50_low", "p50_high", "p90_ms", "p90_low", "p90_high", "p99_ms", "p99_low", "p99_high"),
    *("per_second", "samples", "speedup", "speedup_low", "speedup_high", "bound_share", "padding", "reasons"),
)

#: The first column where no accuracy was measured, and the last ones.
FIDELITY_ONLY = "fidelity measured, accuracy not"
FIDELITY = ("texts", "equal", "agreement_low", "agreement_high", "mean_distance", "largest_distance")
#: How a cell begins that a spreadsheet may run as a formula, in full width too; some trim what stands before
#: it. An apostrophe makes it text.
_FORMULA = re.compile("[\\s\ufeff\u200b-\u200f\u2060]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def render(report: Report) -> str:
    """Flat columns; an empty cell where there is no number. A row without latency has one line.

    Where only fidelity was measured, the first column is called so, and more columns tell it.
    """
    file = io.StringIO()
    columns = (FIDELITY_ONLY, *COLUMNS, *FIDELITY) if report.fidelity else COLUMNS
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for row in report.rows:
        shapes: list[Latency | None] = [*row.latency] or [None]
        for latency in shapes:
            line = _line(report, row, latency)
            if report.fidelity:
                line |= {FIDELITY_ONLY: report.fidelity, **{key: row.fidelity.get(key) for key in FIDELITY}}
            writer.writerow({column: _cell(value) for column, value in line.items()})
    return file.getvalue()


def _line(report: Report, row: Row, latency: Latency | None) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "name": row.name,
        "runtime": row.runtime,
        "precision": row.precision,
        "verdict": row.verdict,
        "chosen": "yes" if row.name == report.chosen else "no",
        "metric": report.metric,
        "score": row.score,
        "score_delta": row.score_delta,
        **_bounds("drop", row.drop),
        "agreement": row.agreement,
        "size_bytes": row.size_bytes,
        "load_rss_bytes": row.load_rss_bytes,
        "peak_rss_bytes": row.peak_rss_bytes,
        "gpu_mib": row.gpu.get("process_memory_mib"),
        "load_ms": row.load_ms,
        "cold_ms": row.cold_ms,
        "seconds": row.seconds,
        "reasons": "; ".join(row.reasons),
    }
    if latency is not None:
        figures |= {
            "batch": latency.batch,
            "tokens": latency.tokens,
            "p50_ms": latency.p50_ms,
            "p90_ms": latency.p90_ms,
            "p99_ms": latency.p99_ms,
            "per_second": latency.per_second,
            "samples": sum(map(len, latency.samples_ms)),
            "bound_share": latency.bound_share,
            "padding": latency.padding,
            **_bounds("speedup", latency.speedup),
        }
        for name in ("p50", "p90", "p99"):
            ends = _bounds(name, getattr(latency, name))
            figures |= {key: value for key, value in ends.items() if key != name}
    return figures


def _bounds(name: str, value: Interval | None) -> dict[str, float]:
    return {} if value is None else {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}


def _cell(value: Json) -> Json:
    if isinstance(value, str):
        text = re.sub(
            "\r\n?", "\n", clean(value)
        )  # a bare one ends a line for some readers, and no writer quotes it
        return f"'{text}" if _FORMULA.match(text) else text
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
