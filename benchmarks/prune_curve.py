"""Draw what pruning costs: relative loss against the share of the FLOPs kept, as docs/prune-curve.svg.

Run: python benchmarks/prune_curve.py
Reads benchmarks/results/prune_oneshot.json and prune_distill.json; measures nothing. Lines are the test
split of SST-2, bars the paired 95% intervals.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "prune-curve.svg"
WIDTH, HEIGHT, LEFT, TOP = 640, 360, 60, 20
#: Name of a line → (keys of a cell with {} for the share removed, in either file; colour).
LINES = {
    "kprune, no training": (("kprune:{}", "sst2:{}:prune"), "#1f6f8b"),
    "random, no training": (("random:{}",), "#999999"),
    "kprune and distill": (("sst2:{}:distill",), "#c1440e"),
    "the same, INT8 in OpenVINO": (("sst2:{}:open-vino-int8",), "#7b4b94"),
}
FILES = ("prune_oneshot", "prune_distill")
SHARES = ("0.2", "0.3", "0.4", "0.5", "0.6", "0.75", "0.85", "0.9")
#: The vertical axis, relative loss in percent.
LOW, HIGH = -2.0, 8.0


def main() -> None:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *axes(),
    ]
    cells: dict[str, Any] = {}
    for file in FILES:
        cells |= json.loads((HERE / "results" / f"{file}.json").read_text(encoding="utf-8"))["cells"]
    for number, (name, (keys, colour)) in enumerate(LINES.items()):
        found = points(cells, keys)
        if found:
            parts += drawn(found, colour, number)
            place = TOP + 14 + 16 * number
            parts.append(f'<text x="{LEFT + 8}" y="{place}" fill="{colour}">● {name}</text>')
    OUT.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
    print(f"written: {OUT}")


def points(cells: dict[str, Any], keys: tuple[str, ...]) -> list[tuple[float, float, float, float]]:
    """(share of the FLOPs kept, relative loss, its low, its high), in percent, of the cells there are."""
    found = []
    for share in SHARES:
        names = [key.format(share) for key in keys]
        names += [f"{name}-unfinished" for name in names]
        cell = next((cells[name] for name in names if name in cells), None)
        if cell:
            test = cell["test"]
            scale = 100 * test["relative_drop"] / test["drop"]["drop"] if test["drop"]["drop"] else None
            if scale is None:  # no drop: the score itself is the baseline's
                scale = 100 / test.get("score", test.get("accuracy"))
            drop = test["drop"]
            kept = 100 * (1 - float(share))
            if scale * drop["drop"] > HIGH:  # above the picture; the table has it
                continue
            found.append((kept, scale * drop["drop"], scale * drop["low"], scale * drop["high"]))
    return found


def drawn(found: list[tuple[float, float, float, float]], colour: str, number: int) -> list[str]:
    line = " ".join(f"{x(kept):.1f},{y(loss):.1f}" for kept, loss, _, _ in found)
    parts = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for kept, loss, low, high in found:
        at = x(kept) + 2 * number - 3  # bars of several lines side by side
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}"/>'
            f'<circle cx="{x(kept):.1f}" cy="{y(loss):.1f}" r="3.5" fill="{colour}"/>'
        )
    return parts


def axes() -> list[str]:
    parts = []
    for loss in range(int(LOW), int(HIGH) + 1, 2):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(loss)}" y2="{y(loss)}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(loss) + 4}" text-anchor="end">{loss}%</text>'
        )
    for kept in range(10, 100, 10):
        parts.append(f'<text x="{x(kept)}" y="{HEIGHT - 28}" text-anchor="middle">{kept}%</text>')
    middle = (LEFT + WIDTH) // 2
    return [
        *parts,
        f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(1)}" y2="{y(1)}" stroke="#c00" stroke-dasharray="4"/>',
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">share of the encoder FLOPs kept</text>',
        f'<text x="14" y="{HEIGHT // 2}" transform="rotate(-90 14 {HEIGHT // 2})" text-anchor="middle">'
        "relative loss of accuracy</text>",
    ]


def x(kept: float) -> float:
    return LEFT + (WIDTH - 20 - LEFT) * (1 - kept / 100)


def y(loss: float) -> float:
    inside = min(max(loss, LOW), HIGH)
    return TOP + (HEIGHT - 50 - TOP) * (HIGH - inside) / (HIGH - LOW)


if __name__ == "__main__":
    main()
