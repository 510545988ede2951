"""The report as Markdown for a pull request comment: the verdict first, the machine last."""

from __future__ import annotations

import html
import json
import re

from optkit.report.charts import figures
from optkit.report.charts.figures import DASH, clean
from optkit.report.model import Report, Row

_MARKS = {"passed": "✅", "failed": "❌", "measured": "📏"}
_MARKUP = re.compile(r"[\\`*_\[\]~|]")
#: What makes a line a heading, an item of a list or a rule, by its beginning.
_BLOCK = re.compile(r"#{1,6}(?=\s|$)|[-+](?=[\s-]|$)|=+\s*$|\d{1,9}(?=[.)](\s|$))")


def render(report: Report) -> str:
    """One sentence, one table, then doubts, how to repeat it, and the environment."""
    state, sentence = figures.verdict(report)
    parts = [
        f"### {_MARKS[state]} optkit: {escape(sentence)}",
        _about(report),
        escape(report.why),
        _table(report),
    ]
    parts += [_listed("Fidelity", figures.fidelity(report)), _scenarios(report)]
    parts += [_listed("Fastest by shape", figures.winners(report))]
    parts += [_listed("Accuracy-aware search", report.trace), _listed("INT8 probes", figures.probes(report))]
    parts += [_listed("Why", figures.reasons(report)), _listed("Doubts", report.doubts)]
    parts += [_changed(report), _reproduce(report), _environment(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(value: object) -> str:
    """Text that Markdown shows as it is: no markup, no cell end, no heading, no @mention or #123 link.

    >>> escape("a|b *c* <i> @me")
    'a\\\\|b \\\\*c\\\\* &lt;i&gt; @\\u200bme'
    """
    text = html.escape(" ".join(clean(value).split()), quote=False)
    # A zero-width space, since GitHub looks for mentions after Markdown's own escapes are gone.
    text = re.sub(r"([@#])(?=\w)", "\\1\u200b", _MARKUP.sub(r"\\\g<0>", text))
    if block := _BLOCK.match(text):
        number = block.end() if text[0].isdigit() else 0  # 1. is an item, 1\. is none
        text = f"{text[:number]}\\{text[number:]}"
    return text


def _about(report: Report) -> str:
    facts = [
        f"{report.task} on {report.data.get('name', DASH)}, {report.data.get('split', DASH)} split, "
        f"{report.data.get('examples', DASH)} examples",
        f"target {report.target}",
        figures.gate(report),
        figures.padding(report),
        f"speedup: {figures.shape_words(figures.headline_shape(report))}, against {report.rows[0].name}",
    ]
    return escape(" · ".join(f for f in facts if f))


def _table(report: Report) -> str:
    shapes = figures.summary_shapes(report)
    left = ["model", "runtime", "precision", "verdict"]
    right = ["MB", "share", escape(report.metric) or "score", "change [95%]", "agreement"]
    right += [f"p50 ms, {figures.shape_name(*shape)}" for shape in shapes]
    right += ["speedup [95%]", "peak MB"]
    lines = [left + right, ["---"] * len(left) + ["---:"] * len(right)]
    for row in report.rows:
        name = escape(row.name)
        lines.append(
            [
                f"**{name}**" if row.name == report.chosen else name,
                escape(row.runtime) or DASH,
                escape(row.precision) or DASH,
                escape(row.verdict),
                figures.megabytes(row.size_bytes),
                figures.size_of_first(report, row),
                figures.score(row.score),
                f"{figures.signed(row.score_delta)} {figures.delta_interval(row)}".strip(),
                figures.share(row.agreement),
                *(figures.number(x.p50_ms if (x := row.at(*shape)) else None) for shape in shapes),
                _speedup(row),
                figures.megabytes(row.peak_rss_bytes),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _scenarios(report: Report) -> str:
    results = [(row, x) for row in report.rows for x in row.scenarios]
    if not results:
        return ""
    heads = ["model", "scenario", "metric", "result", "queries", "seconds", "notes"]
    lines = [heads, ["---"] * 3 + ["---:"] * 3 + ["---"]]
    for row, x in results:
        cells = (row.name, x.scenario, x.metric, figures.number(x.value, 4), x.queries, x.seconds, x.notes)
        lines.append([escape(cell) for cell in cells])
    return "**Scenarios**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speedup(row: Row) -> str:
    if row.speedup is None:
        return DASH
    text = f"{figures.times(row.speedup.value)} {figures.interval(row.speedup)}".strip()
    return f"{text}, no difference shown" if figures.nothing_shown(row.speedup) else text


def _listed(title: str, lines: list[str]) -> str:
    return "\n".join([f"**{title}**", "", *(f"- {escape(line)}" for line in lines)]) if lines else ""


def _changed(report: Report) -> str:
    row = report.chosen_row
    if row is None or not row.flips:
        return ""
    if all(flip["reference"] is None for flip in row.flips):
        return (
            f"{len(row.flips)} answers of {escape(row.name)} are listed as changed; report.html shows them."
        )
    worse = sum(f["reference"] == f["baseline"] for f in row.flips)
    better = sum(f["reference"] == f["candidate"] for f in row.flips)
    return (
        f"Of the {len(row.flips)} predictions of {escape(row.name)} listed as changed, {worse} became wrong "
        f"and {better} became right; report.html shows them."
    )


def _reproduce(report: Report) -> str:
    sha = str(report.data.get("sha256") or "")
    lines = [report.command or "# the report does not say which command made it"]
    lines += [f"# data sha256 {sha}"] if sha else []
    return "**Reproduce**\n\n" + _fenced("\n".join(lines), "sh")


def _environment(report: Report) -> str:
    facts = json.dumps(report.environment.to_dict(), indent=2, ensure_ascii=False, default=str)
    return f"<details><summary>Environment</summary>\n\n{_fenced(facts, 'json')}\n\n</details>"


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in `text`."""
    text = clean(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
