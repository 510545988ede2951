"""`self_check`: what the harness claims of a model against itself, and whether it finds a known slowdown."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from optkit.artifact import Artifact
from optkit.bench.latency import Spawn, measure, speedup
from optkit.bench.plan import Plan, Shape
from optkit.bench.stats import Ratio, difference_shown
from optkit.contestants import open_contestant, synthetic
from optkit.data import Data
from optkit.errors import WorkerError
from optkit.task import Columns, open_task

Listener = Callable[[dict[str, Any]], None]
SAME, SLOWED = "the same model again", "slowed down"


@dataclass(frozen=True)
class SelfCheck:
    """`comparisons` of a model with itself: how often a difference was claimed, and the slowdown found.

    `disturbed` counts comparisons during which the machine was busy to the end; `ratios` holds
    (against itself, against the slowed one) per comparison; `seconds` is what one comparison took.
    """

    slowdown: float
    shape: str
    processes: int
    rounds: int
    false_claims: int
    found: int
    disturbed: int
    seconds: float
    ratios: list[tuple[Ratio, Ratio]]

    @property
    def comparisons(self) -> int:
        return len(self.ratios)

    @property
    def smallest(self) -> float:
        """The slowdown that 9 of 10 of these comparisons would have found.

        Slowing one side of a comparison with itself by s divides both ends of its interval by 1 + s.
        """
        highs = sorted(same.high for same, _ in self.ratios)
        return max(0.0, highs[ceil(0.9 * len(highs)) - 1] - 1)

    def sentence(self) -> str:
        """The result in words, with 95% intervals."""
        n = self.comparisons
        claims, found = share_interval(self.false_claims, n), share_interval(self.found, n)
        text = (
            f"A against A at {self.shape}, {self.processes} processes x {self.rounds} rounds: a difference "
            f"was claimed in {self.false_claims} of {n} comparisons (95% interval {claims[0]:.0%} to "
            f"{claims[1]:.0%}; 5% is what the intervals promise).\n"
            f"An injected slowdown of {self.slowdown:.1%} was found in {self.found} of {n} "
            f"({found[0]:.0%} to {found[1]:.0%}); 9 of 10 would have found {self.smallest:.1%}. "
            f"{self.seconds:.0f} s per comparison."
        )
        if self.disturbed:
            text += f"\nThe machine was busy during {self.disturbed} of them: these count, but mean little."
        return text

    def to_json(self) -> str:
        return json.dumps(
            {**asdict(self), "comparisons": self.comparisons, "smallest": self.smallest}, indent=2
        )


def self_check(
    model: str,
    *,
    slowdown: float = 0.05,
    comparisons: int = 20,
    data: str | None = None,
    columns: Columns = Columns(),
    shape: str | None = None,
    plan: dict[str, Any] | None = None,
    listener: Listener | None = None,
    spawn: Spawn | None = None,
) -> SelfCheck:
    """Measure `model` beside itself and beside itself slowed down by `slowdown`, `comparisons` times.

    Without `data` the inputs are random. `plan` holds fields of `optkit.bench.plan.Plan`, whose
    defaults are those of every other measurement. Raises WorkerError where the model fails.
    """
    listen = listener or (lambda event: None)
    begun, ratios, disturbed = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory(prefix="optkit-bench-") as scratch:
        contestant = open_contestant(model, Path(scratch))
        if data is None:
            encoded = synthetic([contestant])
        else:
            reader = open_task(Artifact.open(contestant.artifact))
            encoded = reader.read(Data(data).split("validation"), columns).encoded
        file = Path(scratch) / "examples.npz"
        encoded.save(file)
        first = contestant.candidate()
        candidates = [first, replace(first, name=SAME), replace(first, name=SLOWED, slowdown=slowdown)]
        measured_at = Shape.parse(shape or "1x32")
        for i in range(comparisons):
            settings = Plan(**{"shapes": (measured_at,), **(plan or {}), "seed": i})
            listen({"event": "step", "name": "self-check", "index": i + 1, "total": comparisons})
            found = measure(candidates, file, settings, listen, spawn)
            for candidate in candidates:
                if (reason := found[candidate.name].error) is not None:
                    raise WorkerError(f"{candidate.name} could not be measured: {reason}")
            same, slowed = (speedup(found[first.name], found[other], measured_at) for other in (SAME, SLOWED))
            ratios.append((same, slowed))
            disturbed += bool(found.doubts)
            listen({"event": "note", "text": _line(ratios[-1])})
    return SelfCheck(
        slowdown=slowdown,
        shape=str(measured_at),
        processes=settings.processes,
        rounds=settings.rounds,
        false_claims=sum(difference_shown(same) for same, _ in ratios),
        found=sum(slowed.high < 1 for _, slowed in ratios),
        disturbed=disturbed,
        seconds=round((time.monotonic() - begun) / comparisons, 1),
        ratios=ratios,
    )


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (Wilson 1927).

    >>> tuple(round(x, 3) for x in share_interval(1, 40))
    (0.004, 0.129)
    """
    z, p = 1.959964, count / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _line(ratios: tuple[Ratio, Ratio]) -> str:
    same, slowed = (f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in ratios)
    return f"same {same}, slowed {slowed}"
