"""Built-in texts, on which a model is compared where there is no data: many scripts, from a word to some 600.

The lines of built_in_texts.txt are optkit's own (CC0). Longer texts are lines put together, always the same.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

#: (texts, lines in each) for every three lines of the file; 0: a single word.
_SIZES = ((60, 0), (90, 2), (40, 4), (16, 10), (6, 60))


@cache
def _lines() -> tuple[str, ...]:
    text = Path(__file__).with_suffix("").with_name("built_in_texts.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))


def measured() -> list[str]:
    """Some 320 texts to compare answers on, the longest of some 600 words; none of their lines is in
    `calibration`."""
    return _texts([line for i, line in enumerate(_lines()) if i % 3], 1.0, seed=1)


def calibration() -> list[str]:
    """Some 150 texts to take ranges from."""
    return _texts(list(_lines()[::3]), 0.5, seed=2)


def _texts(lines: list[str], share: float, seed: int) -> list[str]:
    """The lines, then texts of `_SIZES` made of them, `share` of its numbers."""
    draw = random.Random(seed)
    words = [word for line in lines for word in line.split()]
    texts = list(lines)
    for count, size in _SIZES:
        for _ in range(round(count * share)):
            texts.append(" ".join(draw.choice(lines) for _ in range(size)) if size else draw.choice(words))
    return texts
