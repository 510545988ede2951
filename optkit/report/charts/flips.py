"""The flip report in HTML: the very examples whose prediction differs from the baseline's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.report.charts import figures, parts
from optkit.report.model import Report, Row

_FLIPS: tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...] = (
    ("became wrong", lambda flip: flip.get("reference") == flip.get("baseline")),
    ("became right", lambda flip: flip.get("reference") == flip.get("candidate")),
)


def section(report: Report, row: Row) -> str:
    """The examples whose prediction changed, by true label, the most confident first."""
    if not row.flips:
        return ""
    examples = report.data.get("examples")
    total = len(row.flips)
    if isinstance(examples, int) and figures.known(row.agreement):
        total = max(total, round((1 - row.agreement) * examples))
    counts = [f"{sum(map(test, row.flips))} {name}" for name, test in _FLIPS]
    shown = f", {len(row.flips)} shown" if total > len(row.flips) else ""
    title = f"<b>{parts.text(row.name)}</b>: {total} changed{shown}; {', '.join(counts)}"
    groups: dict[str, list[dict[str, Any]]] = {}
    for flip in sorted(row.flips, key=lambda f: -(f.get("candidate_confidence") or 0.0)):
        groups.setdefault(figures.clean(flip.get("reference")), []).append(flip)
    return parts.details(title, "".join(_group(label, groups[label]) for label in sorted(groups)))


def _group(label: str, flips: list[dict[str, Any]]) -> str:
    items = "".join(_flip(flip) for flip in flips)
    return f'<h3>True label: <bdi>{parts.text(label)}</bdi> ({len(flips)})</h3><ul class="flips">{items}</ul>'


def _flip(flip: dict[str, Any]) -> str:
    change = next((name for name, test in _FLIPS if test(flip)), "changed, still wrong")
    sides = [
        f"<bdi>{parts.text(flip.get(side))}</bdi> {figures.share(flip.get(f'{side}_confidence'), 0)}"
        for side in ("baseline", "candidate")
    ]
    style = {"became wrong": "failed", "became right": "passed"}.get(change, "plain")
    return (
        f'<li><p dir="auto">{parts.text(flip.get("text"))}</p><span class="badge {style}">{change}</span> '
        f"<small>{' → '.join(sides)}</small></li>"
    )
