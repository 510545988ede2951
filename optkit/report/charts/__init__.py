"""Charts as inline SVG: text, no script, no library, coloured by the page's style sheet.

Each function takes a report and returns one `<svg>`, or "" where there is nothing to draw.
"""

from __future__ import annotations

from optkit.report.charts.lanes import distribution, memory, size, waterfall_latency, waterfall_score
from optkit.report.charts.scatter import scatter

__all__ = ["distribution", "memory", "scatter", "size", "waterfall_latency", "waterfall_score"]
