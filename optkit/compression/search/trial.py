"""One trial: run its chain, leave early where the gate is out of reach, measure beside the baseline."""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from optuna import TrialPruned

from optkit.artifact import Artifact
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.plan import Candidate
from optkit.benchmarking.targets import EAGER
from optkit.compression.choice import choose, tied_in
from optkit.compression.loop import Loop
from optkit.compression.resume_cache import key_after, step_folder
from optkit.compression.search.models import in_use
from optkit.core.locks import locked
from optkit.errors import CheckpointError, DataError, PassError, WorkerError
from optkit.passes.base import Pass
from optkit.report.interval import Interval
from optkit.report.model import Row, quality
from optkit.training.tuning.study import Objective

if TYPE_CHECKING:
    import optuna


#: What may be made small beside the score, and how it is shown.
COSTS = {
    "latency": Objective("time", False, "share of fp32 ONNX Runtime's, measured beside it"),
    "size": Objective("size", False, "MB"),
    "memory": Objective("peak memory", False, "MB"),
}
#: Sizes and peaks that are this much apart count as equal, and the faster model is taken.
ALIKE = 0.01
#: A trial's attribute: what its run left about itself.
NOTES = "notes"


@dataclass
class TrialLoop(Loop):
    """A `Loop` whose work folder many trials and processes share: a step that one of them made is there
    for all. `objective` is what to make small within the gate.

    A context manager: until its end no other process deletes what it has touched.
    """

    objective: str = "latency"
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def candidate(self, chain: tuple[Pass, ...], root: str, title: str) -> Row:
        """Run `chain`, and score its result as the row `title`.

        Raises TrialPruned after the last training pass where the gate is out of reach: what follows
        does not raise the score.
        """
        # The study has one data and one metric. Each key is that of the pass before, gone on with.
        keys = list(accumulate(chain, key_after, initial=root))[1:]
        folders = [step_folder(self.work, step, key) for step, key in zip(chain, keys)]
        for folder in folders:
            self._held.enter_context(in_use(folder))
        artifact, parent = self.checkpoint, EAGER
        if not folders[-1].exists():
            # What came before the last step that is there may have been deleted, and is not needed.
            begin = max((i for i, folder in enumerate(folders) if folder.exists()), default=0)
            for step, key, then in list(zip(chain, keys, (*chain[1:], None)))[begin:]:
                self._begin(f"{title}: {step.name()}")
                artifact = self._apply(step, artifact, key)
                if artifact.format == "hf" and then is not None and then.produces != "hf":
                    parent = f"{title}: {step.name()}"
                    self._add(parent, key, artifact, EAGER)
                    self.require_hope(self.rows[-1])
        self._add(title, keys[-1], Artifact.open(folders[-1]), parent)
        self.leaves.append(title)
        return self.rows[-1]

    def require_hope(self, row: Row) -> None:
        """TrialPruned where even the lower end of the drop's 95% interval is more than the gate allows."""
        allowed = self.allowed
        if allowed is not None and row.drop and row.drop.low > allowed:
            shown = f"{row.drop.value:.4f}, at least {row.drop.low:.4f}"
            what = row.name.rpartition(": ")[2]
            raise TrialPruned(f"the score of {what} drops by {shown}; allowed is {allowed:.4f}")
        least, high = self.recipe.gate.min_agreement, row.fidelity.get("agreement_high", math.inf)
        if least is not None and high < least:
            what = row.name.rpartition(": ")[2]
            raise TrialPruned(
                f"at most {high:.4f} of the answers of {what} are the same; asked are {least:.4f}"
            )

    def require_invariance(self, row: Row) -> None:
        """TrialPruned where answers of `row` depend on their batch and the gate refuses that."""
        if not self.recipe.gate.batch_invariant:
            return
        self._probe()
        if row.verdict == "error":
            raise WorkerError(f"{row.name}: {' '.join(row.reasons)}")
        for reason in Gate(max_drop=None, batch_invariant=True).reasons(row, self.rows[0]):
            raise TrialPruned(reason)

    def choose(self, shapes: tuple[str, ...]) -> Row | None:
        """Of the candidates that passed, the smallest by `objective`; of those within `ALIKE` the fastest."""
        passed = [r for r in self.rows if r.name in self.leaves and r.verdict == "passed"]
        if self.objective == "latency" or not passed:
            return super().choose(shapes)
        most = min(_cost(r, self.objective) for r in passed) * (1 + ALIKE)
        near = [r.name for r in passed if _cost(r, self.objective) <= most]
        return choose(self.rows, near, shapes, tied_in(self.measured))

    def why(self, chosen: Row | None, shapes: tuple[str, ...]) -> str:
        if self.objective == "latency" or chosen is None or chosen.verdict != "passed":
            return super().why(chosen, shapes)
        return (
            f"{chosen.name} is smallest by {self.objective} of the candidates that passed; of those within "
            f"{ALIKE:.0%} of it none is better in both score and time."
        )

    def time_beside_fp32(self, row: Row) -> list[str]:
        """Fill in the latency of `row` and of the fp32 graph, measured side by side; the doubts."""
        both = [self.rows[1], row]
        names = {r.name for r in both}
        with locked(timing_turn()):
            measured = self.evaluator.time(both, [c for c in self.candidates if c.name in names])
        return measured.doubts

    @property
    def allowed(self) -> float | None:
        return self.recipe.gate.allowed_drop(self.rows[0].score)

    def _apply(self, step: Pass, source: Artifact, key: str) -> Artifact:
        folder = step_folder(self.work, step, key)
        self._held.enter_context(in_use(folder))
        with locked(folder):  # another process may be at it
            return super()._apply(step, source, key)

    def _score(self, candidate: Candidate, key: str, artifact: Artifact, parent: str | None) -> None:
        with locked(self.work / f"row-{key}"):
            super()._score(candidate, key, artifact, parent)

    def _add(self, title: str, key: str, artifact: Artifact, parent: str) -> None:
        self._score(self._candidate(title, artifact), key, artifact, parent)
        # A row that another trial left has its names.
        self.rows[-1] = replace(self.rows[-1], name=title, artifact=str(artifact.path), parent=parent)


@dataclass(frozen=True)
class Outcome:
    """What a trial tells the study of itself. `cost` is the second objective's value."""

    score: float
    cost: float | None
    drop: Interval | None
    feasible: bool
    folder: str
    steps: list[str]
    speedup: Interval | None = None
    size_bytes: int = 0
    doubts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_chain(loop: TrialLoop, chain: tuple[Pass, ...], trial: optuna.Trial) -> list[float]:
    """[score or agreement, cost] of `chain`.

    How it came about is left in the trial's notes, its gate as constraints.

    Raises PassError where a pass refuses the model or the data: the fault of this chain, which others need
    not share. What is wrong with the checkpoint itself is raised as it is.
    """
    try:
        loop.check([chain])
    except (CheckpointError, DataError) as error:
        raise PassError(str(error), hint=error.hint) from error
    root = loop.baselines([chain])
    steps = [step.name() for step in chain]
    title = f"trial {trial.number}"
    try:
        row = loop.candidate(chain, root, title)
        loop.require_hope(row)
        loop.require_invariance(row)
    except TrialPruned:
        row = loop.rows[-1]
        trial.set_user_attr(
            NOTES, Outcome(quality(row), None, row.drop, False, Path(row.artifact).name, steps).to_dict()
        )
        raise
    except (CheckpointError, DataError) as error:  # a pass that does not suit this model or its data
        raise PassError(str(error), hint=error.hint) from error
    doubts = loop.time_beside_fp32(row) if loop.objective == "latency" else []
    cost = _cost(row, loop.objective)
    drop, allowed = loop.rows[0].score - row.score, loop.allowed
    if allowed is not None:
        trial.set_constraint("drop", drop - allowed)
    gate = loop.recipe.gate
    if gate.min_agreement is not None:
        trial.set_constraint("agreement", gate.min_agreement - row.fidelity.get("agreement_low", 0.0))
    feasible = not Gate(gate.max_drop, gate.relative, min_agreement=gate.min_agreement).reasons(
        row, loop.rows[0]
    )
    outcome = Outcome(
        *(quality(row), cost, row.drop, feasible, Path(row.artifact).name, steps),
        *(row.speedup, row.size_bytes, tuple(doubts)),
    )
    trial.set_user_attr(NOTES, outcome.to_dict())
    return [quality(row), cost]


def timing_turn() -> Path:
    """The lock under which a user's processes take turns: two timings at once would measure each other."""
    return Path(tempfile.gettempdir()) / f"optkit-timing-{os.getuid()}"


def _cost(row: Row, objective: str) -> float:
    if objective == "latency":
        if row.speedup is None:
            raise WorkerError(f"{row.name} could not be timed: {'; '.join(row.reasons) or 'no samples'}.")
        return 1 / row.speedup.value
    return (row.size_bytes if objective == "size" else row.peak_rss_bytes) / 1e6
