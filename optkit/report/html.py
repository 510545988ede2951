"""The report as one HTML page (`optkit.report.page`).

The first screen answers: did it pass, what was won, what was lost. Everything below is the proof.
"""

from __future__ import annotations

from typing import Any

from optkit.report import charts, page
from optkit.report.charts import figures
from optkit.report.charts.figures import DASH
from optkit.report.model import Report, Row

_WORDS = {"passed": "✓ passed", "failed": "✗ failed", "error": "! error"}
Changes = list[tuple[str, dict[str, Any]]]


def render(report: Report) -> str:
    """The whole page."""
    state, sentence = figures.verdict(report)
    shapes = figures.summary_shapes(report)
    heads = [report.metric or "score", "change [95%]", "agreement", "size", "speedup [95%]", "peak memory"]
    labels = [head.removesuffix(" [95%]") for head in heads]
    labels += [f"p50 ms {batch}×{tokens}" for batch, tokens in shapes]

    def cells(row: Row) -> list[tuple[str, str, str | None]]:
        """For each column its label, its value and what stands small beside it."""
        values: list[tuple[str, str | None]] = [
            (figures.score(row.score), None),
            (figures.signed(row.score_delta), figures.delta_interval(row)),
            (figures.share(row.agreement), None),
            (figures.megabytes(row.size_bytes, " MB"), figures.size_of_first(report, row)),
            (figures.speedup(row.speedup), figures.speed_note(row.speedup)),
            (figures.megabytes(row.peak_rss_bytes, " MB"), None),
            *((figures.number(x.p50_ms if (x := row.at(*shape)) else None), None) for shape in shapes),
        ]
        return [(label, *value) for label, value in zip(labels, values, strict=True)]

    results = [(row.name, x) for row in report.rows for x in row.scenarios]
    order = list(dict.fromkeys(x.scenario for _, x in results))  # what compares stands together
    return page.render(
        "report.html.jinja",
        title=f"optkit: {sentence}",
        state="unstable" if figures.unstable(report) else state,
        kicker=report.task,
        sentence=sentence,
        about=_about(report),
        report=report,
        words=_WORDS,
        tiles=_tiles(report),
        heads=heads,
        shapes=shapes,
        cells=cells,
        samples=[
            (f"Batch × tokens: {figures.shape_name(*shape)}", chart)
            for shape in figures.shapes(report)
            if (chart := charts.distribution(report, *shape))
        ],
        scenario_rows=sorted(results, key=lambda result: order.index(result[1].scenario)),
        flipped=lambda row: _flipped(report, row),
        origin=_origin(report),
    )


def _about(report: Report) -> list[str]:
    data = report.data
    facts = [
        f"{data.get('name', DASH)}, {data.get('split', DASH)} split, {data.get('examples', DASH)} examples",
        f"target {report.target}",
        figures.gate(report),
        figures.padding(report),
        report.created,
    ]
    return [fact for fact in facts if fact]


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The four figures that decide, for the chosen row against the first: name, value, note."""
    row, first = report.chosen_row, report.rows[0]
    if row is None or row is first:
        return []
    now, before = figures.headline(report, row), figures.headline(report, first)
    return [
        (
            "Speedup (unstable)" if figures.unstable(report) else "Speedup",
            figures.speedup(row.speedup),
            f"{figures.interval(row.speedup)} {figures.shape_words(figures.headline_shape(report))}",
        ),
        (
            "p50 latency",
            figures.milliseconds(now.p50_ms if now else None),
            f"from {figures.milliseconds(before.p50_ms if before else None)}",
        ),
        _quality_tile(report, row),
        (
            "Size",
            figures.megabytes(row.size_bytes, " MB"),
            f"from {figures.megabytes(first.size_bytes, ' MB')}, {figures.size_of_first(report, row)}",
        ),
    ]


def _quality_tile(report: Report, row: Row) -> tuple[str, str, str]:
    if report.fidelity:
        ends = [figures.share(row.fidelity.get(f"agreement_{end}")) for end in ("low", "high")]
        return "Agreement, not accuracy", figures.share(row.agreement), f"[{', '.join(ends)}]"
    change = f"{figures.signed(row.score_delta)} {figures.delta_interval(row)}"
    return report.metric.capitalize(), figures.score(row.score), change


def _flipped(report: Report, row: Row) -> tuple[int, list[str], list[tuple[str, Changes]]]:
    """The very examples whose prediction changed: how many in all, counts in words, and those that the report
    holds by true label, the most confident first, each with what became of it."""
    examples, total = report.data.get("examples"), len(row.flips)
    if isinstance(examples, int) and figures.known(row.agreement):
        total = max(total, round((1 - row.agreement) * examples))
    groups: dict[str, Changes] = {}
    words = [_change(flip) for flip in row.flips]
    judged = any(flip.get("reference") is not None for flip in row.flips)
    counts = [f"{words.count(word)} {word}" for word in ("became wrong", "became right") if judged]
    for word, flip in sorted(zip(words, row.flips), key=lambda x: -(x[1].get("candidate_confidence") or 0.0)):
        reference = flip.get("reference")
        groups.setdefault("" if reference is None else figures.clean(reference), []).append((word, flip))
    return total, counts, sorted(groups.items())


def _change(flip: dict[str, Any]) -> str:
    if flip.get("reference") is None:
        return "changed"
    if flip.get("reference") == flip.get("baseline"):
        return "became wrong"
    return "became right" if flip.get("reference") == flip.get("candidate") else "changed, still wrong"


def _origin(report: Report) -> dict[str, object]:
    return {
        "source": report.source,
        **{f"data {key}": value for key, value in report.data.items()},
        "took": f"{figures.number(report.seconds or None)} s",
        "of that, timing": f"{figures.number(report.measuring_seconds or None)} s",
        "peak memory": figures.megabytes(report.peak_rss_bytes, " MB"),
        "schema": report.schema,
    }
