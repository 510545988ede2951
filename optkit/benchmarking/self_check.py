"""`self_check`: what the harness claims of a model against itself, and whether it finds a known slowdown."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from optkit.benchmarking.environment import thread_count
from optkit.benchmarking.latency import measure, speedup
from optkit.benchmarking.opened_models import open_model, synthetic
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.statistics import difference_shown
from optkit.benchmarking.timed_process import Spawn
from optkit.core.artifact import Artifact
from optkit.core.quantities import SLOWDOWN
from optkit.data.dataset import Data
from optkit.errors import WorkerError
from optkit.events import Events, Note, Step, silent
from optkit.report.interval import Interval
from optkit.tasks.base import Columns, open_task

SAME, SLOWED = "the same model again", "slowed down"


@dataclass(frozen=True)
class Compared:
    """One comparison: a model beside itself (`same`) and beside itself slowed down (`slowed`).

    `disturbed`: the machine was busy to the end. `seconds` is what the comparison took.
    """

    seed: int
    same: Interval
    slowed: Interval
    disturbed: bool
    seconds: float


@dataclass(frozen=True)
class SelfCheck:
    """How often a difference was claimed where there is none, and how often a known slowdown was found."""

    slowdown: float
    shape: str
    processes: int
    rounds: int
    compared: tuple[Compared, ...]

    @property
    def comparisons(self) -> int:
        return len(self.compared)

    @property
    def false_claims(self) -> int:
        return sum(difference_shown(x.same) for x in self.compared)

    @property
    def found(self) -> int:
        return sum(x.slowed.high < 1 for x in self.compared)

    @property
    def disturbed(self) -> int:
        return sum(x.disturbed for x in self.compared)

    @property
    def seconds(self) -> float:
        """What one comparison took, on average."""
        return round(fmean(x.seconds for x in self.compared), 1)

    @property
    def injected(self) -> float:
        """The slowdown that came out on average: the machine does not do the extra work on the dot."""
        return 1 / geometric_mean(x.slowed.value / x.same.value for x in self.compared) - 1

    @property
    def smallest(self) -> float:
        """The slowdown that 9 of 10 of these comparisons would have found.

        Slowing one side of a comparison with itself by s divides both ends of its interval by 1 + s.
        """
        highs = sorted(x.same.high for x in self.compared)
        return max(0.0, highs[ceil(0.9 * len(highs)) - 1] - 1)

    def sentence(self) -> str:
        """The result in words, with 95% intervals."""
        n = self.comparisons
        claims, detected = share_interval(self.false_claims, n), share_interval(self.found, n)
        text = (
            f"A against A at {self.shape}, {self.processes} processes x {self.rounds} rounds: a difference "
            f"was claimed in {self.false_claims} of {n} comparisons (95% interval {claims[0]:.0%} to "
            f"{claims[1]:.0%}; 5% is what the intervals promise).\n"
            f"An injected slowdown of {self.slowdown:.1%} (measured: {self.injected:.1%}) was found in "
            f"{self.found} of {n} ({detected[0]:.0%} to {detected[1]:.0%}); 9 of 10 would have found "
            f"{self.smallest:.1%}. {self.seconds:.0f} s per comparison."
        )
        if self.disturbed:
            text += f"\nThe machine was busy during {self.disturbed} of them: these count, but mean little."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Fields and everything derived from them, for JSON."""
        derived = ("comparisons", "false_claims", "found", "disturbed", "seconds", "injected", "smallest")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def self_check(
    model: str,
    *,
    slowdown: str | float = "5%",
    comparisons: int = 20,
    data: str | None = None,
    columns: Columns = Columns(),
    shape: str | None = None,
    plan: dict[str, Any] | None = None,
    events: Events = silent,
    spawn: Spawn | None = None,
    done: Sequence[Compared] = (),
    keep: Callable[[SelfCheck], None] | None = None,
) -> SelfCheck:
    """Measure `model` beside itself and beside itself slowed down by `slowdown`, `comparisons` times.

    Without `data` the inputs are random. `plan` holds fields of `optkit.benchmarking.plan.Plan`, whose
    defaults are those of every other measurement. `keep` receives the result so far after each
    comparison; those `done` by an earlier call count, and are not measured again.
    Raises WorkerError where the model fails.
    """
    slowdown = SLOWDOWN.percentage(slowdown, "--slowdown")
    measured_at = Shape.parse(shape or "1x32")
    given = plan or {}
    threads = thread_count(given.get("threads"), given.get("cores"))
    settings = Plan(**{"shapes": (measured_at,), **given, "threads": threads})
    result = SelfCheck(slowdown, str(measured_at), settings.processes, settings.rounds, tuple(done))
    with tempfile.TemporaryDirectory(prefix="optkit-bench-") as scratch:
        first = open_model(model, Path(scratch))
        if data is None:
            encoded = synthetic([first])
        else:
            reader = open_task(Artifact.open(first.artifact))
            encoded = reader.read(Data(data).split("validation"), columns).encoded
        file = Path(scratch) / "examples.npz"
        encoded.save(file)
        for seed in range(len(done), comparisons):
            events(Step("self-check", seed + 1, comparisons))
            compared = _compare(first, slowdown, file, replace(settings, seed=seed), events, spawn)
            events(Note(_line(compared)))
            result = replace(result, compared=(*result.compared, compared))
            if keep is not None:
                keep(result)
    return result


def _compare(
    first: Candidate, slowdown: float, encoded: Path, plan: Plan, events: Events, spawn: Spawn | None
) -> Compared:
    """One comparison, at the only shape of `plan`."""
    begun = time.monotonic()
    candidates = [first, replace(first, name=SAME), replace(first, name=SLOWED, slowdown=slowdown)]
    measured = measure(candidates, encoded, plan, events, spawn)
    for candidate in candidates:
        if (reason := measured[candidate.name].error) is not None:
            raise WorkerError(f"{candidate.name} could not be measured: {reason}")
    same, slowed = (speedup(measured[first.name], measured[name], plan.shapes[0]) for name in (SAME, SLOWED))
    return Compared(plan.seed, same, slowed, bool(measured.doubts), round(time.monotonic() - begun, 1))


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (Wilson 1927).

    >>> tuple(round(x, 3) for x in share_interval(1, 40))
    (0.004, 0.129)
    """
    z, p = 1.959964, count / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _line(compared: Compared) -> str:
    ratios = compared.same, compared.slowed
    same, slowed = (f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in ratios)
    return f"same {same}, slowed {slowed}"
