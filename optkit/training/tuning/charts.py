"""A study in pictures: its history, what mattered, how each parameter did, and the front. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from optkit.report.charts.figures import number, share
from optkit.report.charts.svg import Axis, axis_below, box, fit, frame, line, text, width_of
from optkit.training.tuning.results import StudyResult, TrialResult
from optkit.training.tuning.study import Objective

WIDTH, HEIGHT, LANE = 420, 260, 40
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 406.0, 28.0, 216.0


def history(result: StudyResult, index: int = 0) -> str:
    """A mark per trial in their order; the line is the best so far."""
    objective = result.objectives[index]
    complete = [(t.number, t.values[index]) for t in result.complete]
    stopped = [(t.number, _last(t)) for t in result.trials if t.state == "stopped early" and t.curve]
    if not complete:
        return ""
    x, y, body = _frame_of([n for n, _ in complete + stopped], [v for _, v in complete + stopped], "trial")
    best = list(accumulate((v for _, v in complete), max if objective.maximize else min))
    steps = f"M{x.at(complete[0][0]):.1f} {y.at(best[0]):.1f}"
    steps += "".join(f"H{x.at(n):.1f}V{y.at(v):.1f}" for (n, _), v in zip(complete[1:], best[1:]))
    body.append(f'<path d="{steps}" class="front"/>')
    body += [_cross(x.at(n), y.at(v)) for n, v in stopped]
    body += [_disc(x.at(n), y.at(v), n in result.best) for n, v in complete]
    return frame(
        WIDTH,
        HEIGHT,
        f"History of {objective.name}",
        f"{len(complete)} complete trials; the best is {number(best[-1], 4)}.",
        [text(4, 14, fit(_caption(objective), WIDTH - 8), "muted"), *body],
    )


def curves(result: StudyResult) -> str:
    """What trials reported on their way; the best trial's line is strong."""
    told = [t for t in result.trials if t.curve]
    if not told or max(len(t.curve) for t in told) < 2:
        return ""
    points = [point for t in told for point in t.curve.items()]
    x, y, body = _frame_of([s for s, _ in points], [v for _, v in points], "epoch")
    for t in sorted(told, key=lambda t: t.number in result.best):
        steps = sorted(t.curve.items())
        path = "M" + "L".join(f"{x.at(s):.1f} {y.at(v):.1f}" for s, v in steps)
        style = "median" if t.number in result.best else "whisker"
        body.append(f'<path d="{path}" class="{style}" fill="none"/>')
        if t.state == "stopped early":
            body.append(_cross(x.at(steps[-1][0]), y.at(steps[-1][1])))
    said = f"{len(told)} trials; a cross is a trial stopped early."
    name = result.objectives[0].name
    return frame(WIDTH, HEIGHT, f"{name} by epoch", said, [text(4, 14, name, "muted"), *body])


def importance(result: StudyResult, objective: Objective) -> str:
    """A bar per parameter: its share of what decides the objective."""
    shares = result.importance.get(objective.name) or {}
    if not shares:
        return ""
    axis, body = Axis(0, 1, 8, WIDTH - 8), []
    for i, (name, value) in enumerate(shares.items()):
        y = 14.0 + i * LANE
        said = share(value, 0)
        body += [
            text(8, y, fit(name, WIDTH - 24 - width_of(said))),
            text(WIDTH - 8, y, said, "", "end"),
            box(axis.at(0), axis.at(value), y + 5, 11, "bar chosen" if i == 0 else "bar"),
        ]
    described = ", ".join(f"{name} {share(value, 0)}" for name, value in shares.items())
    title = f"What decided {objective.name}"
    return frame(WIDTH, 6 + LANE * len(shares), title, described, body)


def slices(result: StudyResult, index: int = 0) -> Sequence[str]:
    """A panel per parameter: its values against the objective."""
    objective, panels = result.objectives[index], []
    for name, form in result.space.items():
        tried = [t for t in result.complete if name in t.parameters]
        if len({repr(t.parameters[name]) for t in tried}) < 2:
            continue
        values = [t.parameters[name] for t in tried]
        names = _names(values)
        places = [float(names.index(repr(v))) if names else float(v) for v in values]
        log = form.startswith("loguniform")
        scores = [t.values[index] for t in tried]
        x, y, body = _frame_of(places, scores, f"{name}, log scale" if log else name, log, names or None)
        body += [_disc(x.at(p), y.at(v), t.number in result.best) for p, v, t in zip(places, scores, tried)]
        said = f"{len(tried)} trials."
        heading = text(4, 14, fit(_caption(objective), WIDTH - 8), "muted")
        panels.append(frame(WIDTH, HEIGHT, f"{objective.name} by {name}", said, [heading, *body]))
    return panels


def front(result: StudyResult, width: int = 860, height: int = 400) -> str:
    """The first objective against the second, with the front that no other trial beats in both."""
    if len(result.objectives) < 2 or not result.complete:
        return ""
    cost, gain = result.objectives[1], result.objectives[0]
    left, right, top, bottom = 58.0, width - 14.0, 30.0, height - 44.0
    x = Axis.over([t.values[1] for t in result.complete], left, right, pad=0.1)
    y = Axis.over([t.values[0] for t in result.complete], bottom, top, pad=0.1)
    body = _axes(x, y, left, right, top, bottom, _caption(cost), None, 8 if width > 500 else 4)
    body.insert(0, text(4, 14, fit(f"{_caption(gain)}", width - 8), "muted"))
    best = sorted((result.trial(n) for n in result.best), key=lambda t: t.values[1])
    path = f"M{x.at(best[0].values[1]):.1f} {y.at(best[0].values[0]):.1f}"
    path += "".join(f"H{x.at(t.values[1]):.1f}V{y.at(t.values[0]):.1f}" for t in best[1:])
    body.append(f'<path d="{path}" class="front"/>')
    for t in result.complete:
        here = (x.at(t.values[1]), y.at(t.values[0]))
        fine = (t.notes.get("notes") or {}).get("feasible", True)
        body.append(_disc(*here, t.number in result.best) if fine else _cross(*here))
        body.append(text(here[0] + 9, here[1] - 7, str(t.number), "on"))
    said = f"{len(result.complete)} complete trials; not beaten: {', '.join(map(str, result.best))}."
    return frame(width, height, f"{gain.name} against {cost.name}", said, body)


def _frame_of(
    xs: Sequence[float],
    ys: Sequence[float],
    caption: str,
    log: bool = False,
    names: list[str] | None = None,
) -> tuple[Axis, Axis, list[str]]:
    x = Axis.over(list(xs), _LEFT, _RIGHT, log, 0.06)
    y = Axis.over(list(ys), _BOTTOM, _TOP, pad=0.1)
    return x, y, _axes(x, y, _LEFT, _RIGHT, _TOP, _BOTTOM, caption, names)


def _axes(
    x: Axis,
    y: Axis,
    left: float,
    right: float,
    top: float,
    bottom: float,
    caption: str,
    names: list[str] | None = None,
    most: int = 5,
) -> list[str]:
    parts = []
    if names is None:
        parts += axis_below(x, top, bottom, fit(caption, right - left), most)
    else:
        room = (right - left) / len(names)
        for i, name in enumerate(names):
            parts.append(text(x.at(i), bottom + 15, fit(name.strip("'"), room), "muted", "middle"))
        parts.append(text((left + right) / 2, bottom + 32, caption, "muted", "middle"))
    for tick, label in y.labels(5):
        parts.append(line(left, y.at(tick), right, y.at(tick), "grid"))
        parts.append(text(left - 6, y.at(tick) + 4, label, "muted", "end"))
    return parts


def _names(values: list[Any]) -> list[str]:
    """The different values as categories; [] where they are numbers."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return []
    return sorted({repr(v) for v in values})


def _caption(objective: Objective) -> str:
    unit = f", {objective.unit}" if objective.unit else ""
    return f"{objective.name}{unit} {'↑' if objective.maximize else '↓'}"


def _last(trial: TrialResult) -> float:
    return trial.curve[max(trial.curve)]


def _disc(x: float, y: float, best: bool) -> str:
    halo = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" class="halo"/>' if best else ""
    return f'{halo}<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="mark {"passed" if best else "step"}"/>'


def _cross(x: float, y: float) -> str:
    return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" class="cross"/>'
