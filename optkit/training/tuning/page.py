"""The study as one HTML page that needs nothing else, and as a table in the terminal."""

from __future__ import annotations

from pathlib import Path

from optkit.core.files import write_json, write_text
from optkit.core.schema.notes import Study, left_by_a_run
from optkit.report.charts import parts
from optkit.report.charts.figures import DASH, number
from optkit.training.tuning import charts
from optkit.training.tuning.results import StudyResult

#: Beside the model; not part of it.
JSON, PAGE = "study.json", "study.html"
#: Trials in the table in the terminal; the best are all there.
SHOWN = 10


def save(result: StudyResult, folder: Path, sentence: str) -> None:
    """Write study.json and study.html into `folder`."""
    write_json(folder / JSON, result.to_dict())
    write_text(folder / PAGE, render(result, sentence))


def is_of(out: Path, name: str, url: str) -> bool:
    """Whether the folder `out` is what an earlier run of the study `name` at `url` left."""
    file = out / JSON
    if not file.exists():
        return False
    study = left_by_a_run(Study, file)
    return (study.name, study.storage) == (name, url)


def finished_since(out: Path, name: str, url: str, moment: float, complete: int = 0) -> bool:
    """Whether a run of the study that knew of `complete` trials left `out` later than `moment` (seconds since
    the epoch). One that began with fewer trials may have ended while others still ran."""
    if not is_of(out, name, url) or (out / JSON).stat().st_mtime <= moment:
        return False
    states = [trial.state for trial in left_by_a_run(Study, out / JSON).trials]
    return states.count("complete") >= complete


def render(result: StudyResult, sentence: str) -> str:
    """The whole page; `sentence` is what came of it."""
    several = len(result.objectives) > 1
    facts = [result.count(), f"sampler {result.sampler}", f"pruner {result.pruner}", result.storage]
    about = " · ".join(parts.text(fact) for fact in facts)
    every = range(len(result.objectives))
    slices = [
        parts.details(f"{result.objectives[i].name} by parameter", panels) if several else panels
        for i in every
        if (panels := parts.grid(charts.slices(result, i)))
    ]
    body = [
        f'<header class="{"passed" if result.best else "failed"}">'
        f'<p class="kicker">optkit · study {parts.text(result.name)}</p>'
        f'<h1>{parts.text(sentence)}</h1><p class="about">{about}</p></header><main>',
        parts.section("The front", _front(result)) if several else "",
        parts.section(
            "History", parts.grid([*(charts.history(result, i) for i in every), charts.curves(result)])
        ),
        parts.section("What mattered", _importance(result)),
        parts.section("By parameter", "".join(slices)),
        parts.section("Trials", _trials(result)),
        parts.section("Space", parts.facts(result.space)),
        parts.section("How to reproduce", _reproduce(result)),
    ]
    return parts.page(f"optkit: study {result.name}", body)


def lines(result: StudyResult) -> list[str]:
    """The trials as lines of text, the best first; a star marks what no other trial beats."""
    first = result.objectives[0]
    order = sorted(result.complete, key=lambda t: -t.values[0] if first.maximize else t.values[0])
    order.sort(key=lambda t: t.number not in result.best)
    heads = ["trial", *(o.name for o in result.objectives), "parameters"]
    rows = [
        [
            f"{'*' if t.number in result.best else ' '} {t.number}",
            *(number(v, 4) for v in t.values),
            t.said,
        ]
        for t in order[: max(SHOWN, len(result.best))]
    ]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads) - 1)]
    shown = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[-1]])
        for row in [heads, *rows]
    ]
    left = len(order) - len(rows)
    return [*shown, *([f"and {left} more in {PAGE}"] if left > 0 else []), result.count()]


def _front(result: StudyResult) -> str:
    wide, narrow = charts.front(result), charts.front(result, 360, 340)
    note = "Dashed: what no other trial beats in both. A cross misses the gate; numbers are those of trials."
    return f'<figure class="pair">{wide}{narrow}<figcaption>{note}</figcaption></figure>' if wide else ""


def _importance(result: StudyResult) -> str:
    drawn = [(o.name, charts.importance(result, o)) for o in result.objectives]
    panels = [f"<h3>{parts.text(name)}</h3>{chart}" for name, chart in drawn if chart]
    note = f"Shares by PED-ANOVA over {len(result.complete)} complete trials; a dozen or fewer only hint."
    return parts.grid(panels) + f'<p class="note">{parts.text(note)}</p>' if panels else ""


def _trials(result: StudyResult) -> str:
    heads = ["Trial", "how it ended", *(o.name for o in result.objectives), "seconds", "where", "parameters"]
    rows = [
        (
            f"<b>{t.number}</b>" if t.number in result.best else str(t.number),
            [
                parts.text(t.state)
                + (f"<small class='wrap'>{parts.text(t.error)}</small>" if t.error else ""),
                *([number(v, 4) for v in t.values] or [DASH] * len(result.objectives)),
                number(t.seconds),
                parts.text(t.where or DASH),
                f"<code>{parts.text(t.said)}</code>",
            ],
        )
        for t in result.trials
    ]
    return parts.table("Trials", heads, rows)


def _reproduce(result: StudyResult) -> str:
    command = f'<pre tabindex="0">{parts.text(result.command)}</pre>' if result.command else ""
    return command + parts.facts(parts.flat({k: v for k, v in result.facts.items() if v is not None}))
