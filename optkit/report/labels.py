"""The scores by label of every row as Markdown tables: what classification_report prints, for all models."""

from __future__ import annotations

from optkit.report.markdown import escape
from optkit.report.model import Report
from optkit.report.scores import cells


def render(report: Report) -> str:
    """A table per row; a row without one says its verdict."""
    parts = []
    for row in report.rows:
        said = f"### {escape(row.name)}, {escape(row.verdict)}"
        if row.table:
            heads, *lines = ([escape(cell) for cell in line] for line in cells(row.table))
            rule = ["---", *["---:"] * (len(heads) - 1)]
            table = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))
        else:
            table = "There are no scores by label."
        parts.append(f"{said}\n\n{table}\n")
    return "\n".join(parts)
