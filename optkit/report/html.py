"""The report as one HTML page that needs nothing else: no script, no font, no address.

The first screen answers: did it pass, what was won, what was lost. Everything below is the proof.
All text from the report passes `parts.text`, which escapes it; a policy in the page forbids scripts too.
"""

from __future__ import annotations

import json

from optkit.report import charts
from optkit.report.charts import figures, flips, parts, tables
from optkit.report.charts.figures import DASH
from optkit.report.model import Report, Row

_WORDS = {"passed": "✓ passed", "failed": "✗ failed", "error": "! error"}


def render(report: Report) -> str:
    """The whole page."""
    state, sentence = figures.verdict(report)
    style = "unstable" if figures.unstable(report) else state
    body = [
        f'<header class="{style}"><p class="kicker">optkit · {parts.text(report.task)}</p>',
        f"<h1>{parts.text(sentence)}</h1>{_about(report)}</header><main>{_tiles(report)}",
        parts.section("Summary", _why(report) + _summary(report) + parts.bullets(figures.reasons(report))),
        parts.section("Fidelity", parts.bullets(figures.fidelity(report))),
        parts.section("Doubts", _doubts(report)),
        parts.section("Accuracy against latency", _scatter(report)),
        parts.section("What each step changed", _waterfalls(report)),
        parts.section("How the latency samples spread", _distributions(report)),
        parts.section("Fastest by shape", parts.bullets(figures.winners(report))),
        parts.section("Accuracy-aware search", parts.bullets(report.trace)),
        parts.section("INT8 probes", parts.bullets(figures.probes(report))),
        parts.section("Scenarios", tables.scenarios(report)),
        parts.section("Size and memory", _sizes(report)),
        parts.section("What changed, by example", "".join(flips.section(report, row) for row in report.rows)),
        parts.section("Steps", tables.steps(report)),
        parts.section("How to reproduce", _reproduce(report)),
        parts.section("Environment", parts.facts(parts.flat(report.environment.to_dict()))),
    ]
    return parts.page("optkit: " + sentence, body)


def _about(report: Report) -> str:
    data = report.data
    facts = [
        f"{data.get('name', DASH)}, {data.get('split', DASH)} split, {data.get('examples', DASH)} examples",
        f"target {report.target}",
        figures.gate(report),
        figures.padding(report),
        report.created,
    ]
    return f'<p class="about">{" · ".join(parts.text(fact) for fact in facts if fact)}</p>'


def _tiles(report: Report) -> str:
    """The four figures that decide, for the chosen row against the first."""
    row, first = report.chosen_row, report.rows[0]
    if row is None or row is first:
        return ""
    now, before = figures.headline(report, row), figures.headline(report, first)
    tiles = [
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
    inner = "".join(
        f"<div><dt>{parts.text(name)}</dt><dd><b>{parts.text(value)}</b> "
        f"<span>{parts.text(note)}</span></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">{inner}</dl>'


def _quality_tile(report: Report, row: Row) -> tuple[str, str, str]:
    if report.fidelity:
        ends = [figures.share(row.fidelity.get(f"agreement_{end}")) for end in ("low", "high")]
        return "Agreement, not accuracy", figures.share(row.agreement), f"[{', '.join(ends)}]"
    change = f"{figures.signed(row.score_delta)} {figures.delta_interval(row)}"
    return report.metric.capitalize(), figures.score(row.score), change


def _summary(report: Report) -> str:
    """One line per row; on a phone each line folds into a card, labelled by `data-label`."""
    shapes = figures.summary_shapes(report)
    heads = [report.metric or "score", "change [95%]", "agreement", "size", "speedup [95%]", "peak memory"]
    labels = [head.removesuffix(" [95%]") for head in heads]
    labels += [f"p50 ms {batch}×{tokens}" for batch, tokens in shapes]
    top = '<th rowspan="2" scope="col" role="columnheader">Model</th>'
    top += "".join(
        f'<th rowspan="2" scope="col" role="columnheader">{parts.text(head)}</th>' for head in heads
    )
    top += (
        f'<th colspan="{len(shapes)}" scope="colgroup" role="columnheader">p50 ms at batch × tokens</th>'
        * bool(shapes)
    )
    below = "".join(
        f'<th scope="col" role="columnheader">{parts.text(figures.shape_name(*shape))}</th>'
        for shape in shapes
    )
    lines = []
    for row in report.rows:
        cells = [
            figures.score(row.score),
            f"{figures.signed(row.score_delta)}<small>{figures.delta_interval(row)}</small>",
            figures.share(row.agreement),
            f"{figures.megabytes(row.size_bytes, ' MB')}<small>{figures.size_of_first(report, row)}</small>",
            f"{figures.speedup(row.speedup)}<small>{figures.speed_note(row.speedup)}</small>",
            figures.megabytes(row.peak_rss_bytes, " MB"),
            *(figures.number(x.p50_ms if (x := row.at(*shape)) else None) for shape in shapes),
        ]
        tds = "".join(
            f'<td role="cell" data-label="{parts.text(label)}"><span>{cell}</span></td>'
            for label, cell in zip(labels, cells, strict=True)
        )
        chosen = ' class="chosen"' if row.name == report.chosen and row.verdict != "failed" else ""
        lines.append(f'<tr role="row"{chosen}>{_row_head(report, row)}{tds}</tr>')
    return parts.scroll(
        "Summary",
        f'<table role="table" class="fold"><thead role="rowgroup"><tr role="row">{top}</tr>'
        f'<tr role="row">{below}</tr></thead><tbody role="rowgroup">{"".join(lines)}</tbody></table>',
    )


def _row_head(report: Report, row: Row) -> str:
    word = _WORDS.get(row.verdict, row.verdict)
    best = "best agreement" if report.fidelity else "best score"
    pick, word_for = ("plain", best) if row.verdict == "failed" else ("pick", "chosen")
    chosen = f'<span class="badge {pick}">{word_for}</span>' if row.name == report.chosen else ""
    what = " · ".join(parts.text(x) for x in (row.runtime, row.precision) if x)
    return (
        f'<th scope="row" role="rowheader"><b>{parts.text(row.name)}</b> '
        f'<span class="badge {_verdict_class(row)}">{parts.text(word)}</span> {chosen}'
        f"<small>{what}</small></th>"
    )


def _verdict_class(row: Row) -> str:
    return row.verdict if row.verdict in ("passed", "failed", "error") else "plain"


def _why(report: Report) -> str:
    return f"<p>{parts.text(report.why)}</p>" if report.why else ""


def _doubts(report: Report) -> str:
    return f'<div class="doubts">{parts.bullets(report.doubts)}</div>' if report.doubts else ""


def _scatter(report: Report) -> str:
    wide, narrow = charts.scatter(report, 860, 400), charts.scatter(report, 360, 340)
    note = (
        "Dashed: the Pareto front, what no other row beats in both. Vertical lines: 95% interval of the "
        "paired change. Square: baseline; disc: passed or not judged; cross: failed; ring: chosen."
    )
    return f'<figure class="pair">{wide}{narrow}<figcaption>{note}</figcaption></figure>' if wide else ""


def _waterfalls(report: Report) -> str:
    if len(report.rows) < 2:
        return ""
    note = (
        "Each bar runs from the row that the step started from to its own value; the change is in brackets. "
        "Gray: the interval against the first row holds no change."
    )
    pair = parts.grid([charts.waterfall_latency(report), charts.waterfall_score(report)])
    return pair and f"{pair}<p class='note'>{note}</p>"


def _sizes(report: Report) -> str:
    drawn = {"Size on disk": charts.size(report), "Peak memory": charts.memory(report)}
    grid = parts.grid([f"<h3>{title}</h3>{chart}" for title, chart in drawn.items() if chart])
    return grid + tables.memory(report)


def _distributions(report: Report) -> str:
    panels = []
    for batch, tokens in figures.shapes(report):
        if chart := charts.distribution(report, batch, tokens):
            panels.append(f"<h3>Batch × tokens: {parts.text(figures.shape_name(batch, tokens))}</h3>{chart}")
    note = "A dot is one call; the box holds the middle half, the line the middle 90%, the bar is the median."
    return parts.grid(panels) + f'<p class="note">{note}</p>{tables.latency(report)}' if panels else ""


def _reproduce(report: Report) -> str:
    facts = {
        "source": report.source,
        **{f"data {key}": value for key, value in report.data.items()},
        "took": f"{figures.number(report.seconds or None)} s",
        "of that, timing": f"{figures.number(report.measuring_seconds or None)} s",
        "peak memory": figures.megabytes(report.peak_rss_bytes, " MB"),
        "schema": report.schema,
    }
    command = report.command or "The report does not say which command made it."
    recipe = parts.text(json.dumps(report.recipe, indent=2, ensure_ascii=False, default=str))
    details = parts.details("Recipe", f'<pre tabindex="0">{recipe}</pre>') if report.recipe else ""
    return f'<pre tabindex="0">{parts.text(command)}</pre>{parts.facts(facts)}{details}'
