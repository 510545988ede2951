"""How a training run went, as one HTML page that needs nothing else: loss by step, score by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optkit.report import page
from optkit.report.charts.figures import number
from optkit.report.charts.svg import Axis, axis_below, fit, frame, line, text

#: Beside the model; not part of it.
PAGE = "training.html"
WIDTH, HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 406.0, 28.0, 216.0


def render(step: dict[str, Any]) -> str:
    """The page of one lineage step that `finetune` or `distill` wrote."""
    notes = step["notes"]
    said = f"{notes['metric']} {notes['score']:.4f} on validation, {notes['examples']} training examples"
    losses, history = notes["losses"], notes["history"]
    epochs = [(e["epoch"], e["score"]) for e in history]
    curves = [
        curve("loss", "step", _points(losses, "step", "loss")),
        curve(notes["metric"], "epoch", epochs),
        curve(
            "learning rate × 10⁶", "step", [(x, 1e6 * y) for x, y in _points(losses, "step", "learning_rate")]
        ),
        curve("norm of the gradient", "step", _points(losses, "step", "grad_norm")),
    ]
    return page.render(
        "training.html.jinja",
        title=f"optkit: {step['pass']}",
        state="passed",
        kicker=step["pass"],
        sentence=said,
        about=[],
        curves=[("", drawn) for drawn in curves],
        doubts=notes.get("doubts"),
        table=notes.get("table"),
        settings=step["parameters"],
    )


def curve(title: str, caption: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through (x, y); "" where there is none."""
    if not points:
        return ""
    x = Axis.over([a for a, _ in points], _LEFT, _RIGHT)
    y = Axis.over([b for _, b in points], _BOTTOM, _TOP, pad=0.1)
    body = [text(4, 14, fit(title, WIDTH - 8), "muted"), *axis_below(x, _TOP, _BOTTOM, caption, 5)]
    for tick, label in y.labels(5):
        body.append(line(_LEFT, y.at(tick), _RIGHT, y.at(tick), "grid"))
        body.append(text(_LEFT - 6, y.at(tick) + 4, label, "muted", "end"))
    path = "M" + "L".join(f"{x.at(a):.1f} {y.at(b):.1f}" for a, b in points)
    body.append(f'<path d="{path}" class="median" fill="none"/>')
    if len(points) == 1:
        body.append(
            f'<circle cx="{x.at(points[0][0]):.1f}" cy="{y.at(points[0][1]):.1f}" r="5" class="mark"/>'
        )
    said = f"From {number(points[0][1], 4)} to {number(points[-1][1], 4)}."
    return frame(WIDTH, HEIGHT, f"{title} by {caption}", said, body)


def _points(entries: list[dict[str, float]], x: str, y: str) -> list[tuple[float, float]]:
    return [(entry[x], entry[y]) for entry in entries if y in entry]
