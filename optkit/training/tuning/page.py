"""The study as one HTML page that needs nothing else, and as a table in the terminal."""

from __future__ import annotations

from pathlib import Path

from optkit.core.files import write_json, write_text
from optkit.core.schema.notes import Study, left_by_a_run
from optkit.report import page
from optkit.report.charts.figures import number
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
    every = range(len(result.objectives))
    by_parameter = [(result.objectives[i].name, charts.slices(result, i)) for i in every]
    return page.render(
        "study.html.jinja",
        title=f"optkit: study {result.name}",
        state="passed" if result.best else "failed",
        kicker=f"study {result.name}",
        sentence=sentence,
        about=[result.count(), f"sampler {result.sampler}", f"pruner {result.pruner}", result.storage],
        result=result,
        front=(charts.front(result), charts.front(result, 360, 340)) if several else ("", ""),
        history=[
            ("", chart) for chart in (*(charts.history(result, i) for i in every), charts.curves(result))
        ],
        importance=[(o.name, charts.importance(result, o)) for o in result.objectives],
        slices=[(name, [("", chart) for chart in drawn]) for name, drawn in by_parameter if any(drawn)],
        origin={key: value for key, value in result.facts.items() if value is not None},
    )


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
