"""`Loop`: run a pass, score its result, save; then time everything side by side.

Each step's artifact and score lie in a work folder (`optkit.compression.resume_cache`), so that the same
command run again goes on where it was interrupted.
"""

from __future__ import annotations

import math
import resource
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from optkit.artifact import Artifact, library_versions
from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.evaluation import Evaluator, failed_row
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Candidate
from optkit.benchmarking.roofline import Peak
from optkit.benchmarking.targets import EAGER, eager_options, tuned
from optkit.benchmarking.unlabelled import Unlabelled
from optkit.compression.choice import choose, tied_in, why
from optkit.compression.recipe import Recipe
from optkit.compression.resume_cache import key_after, peak_file, spec, step_folder
from optkit.core.files import digest, read_json, write_json
from optkit.core.process import Child
from optkit.core.schema.notes import PeakMemory, left_by_a_run
from optkit.data.dataset import Data
from optkit.errors import (
    CheckpointError,
    DataError,
    OptkitError,
    OutputError,
    PassError,
    RecipeError,
    WorkerError,
)
from optkit.events import Events, Note, Progress, RowDone, Step
from optkit.passes.base import Pass, make
from optkit.report.model import Row, quality, row_from_dict
from optkit.runtimes.base import DEFAULT_RUNTIME
from optkit.tasks.base import Columns, Outputs

#: What one step may raise while others are well: it does not suit the model or the data, or it broke. A full
#: disk or a package that is not installed is everyone's.
FAILURES = (PassError, WorkerError, RecipeError, CheckpointError, DataError)


@dataclass
class Loop:
    """One run of a recipe: `all()` fills `rows`, in order, and `leaves`, the names of the candidates.

    `doubts` and `noise` say what disturbed the latencies; `peaks` are the machine's measured ones, `trace`
    is what the accuracy-aware search tried. `calibration` are encoded inputs for passes that take ranges,
    where `data` has no labels.
    """

    checkpoint: Artifact
    recipe: Recipe
    evaluator: Evaluator
    data: Data | Unlabelled
    columns: Columns
    split: str
    work: Path
    trust_remote_code: bool
    events: Events
    calibration: Path | None = None
    rows: list[Row] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0
    doubts: list[str] = field(default_factory=list)
    noise: dict[str, float | None] = field(default_factory=dict)
    measured: Measurement | None = None
    measuring_seconds: float = 0.0
    peaks: Peak | None = None
    trace: list[str] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    _total: int = 0
    _baseline: Outputs | None = None
    _named: dict[str, str] = field(default_factory=dict)
    _failed: dict[str, OptkitError] = field(default_factory=dict)
    _hopeless: set[str] = field(default_factory=set)  # trials that missed the score: nobody asks how fast
    _tuned: str = ""

    def all(self) -> None:
        """The baselines, then every chain of the recipe (shared steps run once), then all latencies."""
        chains = self.recipe.chains()
        root = self.baselines(chains)
        failures = [failure for chain in chains if (failure := self._attempt(chain, root))]
        if len(failures) == len(chains):
            raise failures[0]
        self._go_on(chains, root)
        self.conclude()

    def baselines(self, chains: list[tuple[Pass, ...]]) -> str:
        """Score the baselines; the key that names of everything made from the checkpoint hash."""
        root = digest(
            self.checkpoint.fingerprint(),
            self.evaluator.task.name,
            self.data.fingerprint(self.split),
            self.evaluator.labelled.references,
            self.evaluator.labelled.encoded.digest(),
            asdict(self.columns),
            library_versions(),
        )
        self._tuned, passes = tuned(self.recipe.target)
        second = tuple(make(*one) for one in passes)
        distinct = {digest(*map(spec, chain[: i + 1])) for chain in chains for i in range(len(chain))}
        self._total = 2 + len(distinct - {digest(*map(spec, second))})
        options = {**eager_options(self.recipe.target), "task": self.evaluator.task.name}
        if self.trust_remote_code:
            options["trust_remote_code"] = True
        eager = Candidate(EAGER, str(self.checkpoint.path), "torch", options, texts=self.evaluator.texts)
        self._score(eager, root, self.checkpoint, None)
        self._chain(second, root, leaf=False, name=self._tuned)
        return root

    def check(self, chains: list[tuple[Pass, ...]]) -> None:
        """Ask every pass of `chains` whether it can work, before any work. Raises what `Pass.check` does."""
        for chain in chains:
            for step in chain:
                if self.calibration and step.needs_own_data:
                    raise DataError(
                        f"Expected data of the model's own task for {step.name()}, which learns from it or "
                        "cuts by it; received none.",
                        hint="Give --data; --int8 alone does without.",
                    )
                step.check(self.checkpoint, self.evaluator.task)

    def conclude(self) -> None:
        """Time, probe and judge every row."""
        begun = time.monotonic()
        self._time()
        self._probe()
        self.measuring_seconds = time.monotonic() - begun
        for row in self.rows:
            self._judge(row)
            self.events(RowDone(row))

    def choose(self, shapes: tuple[str, ...]) -> Row | None:
        """The candidate that `optkit.compression.choice.choose` takes, after `conclude`."""
        return choose(self.rows, self.leaves, shapes, tied_in(self.measured))

    def why(self, chosen: Row | None, shapes: tuple[str, ...]) -> str:
        """Why `choose` took it, in one sentence."""
        return why(chosen, self.rows, self.leaves, shapes)

    def _attempt(self, chain: tuple[Pass, ...], root: str) -> OptkitError | None:
        """Run one chain. A candidate that fails gets an error row, and the others go on.

        A step that failed in another chain has its row, and is not tried again.
        """
        try:
            self._chain(chain, root, leaf=True)
        except FAILURES as error:
            if not any(error is failed for failed in self._failed.values()):
                raise  # it came of no step
            return error
        return None

    def _chain(self, chain: tuple[Pass, ...], root: str, leaf: bool, name: str | None = None) -> None:
        """Run the passes of `chain` that have not run yet, and score each result."""
        artifact, key, parent = self.checkpoint, root, EAGER
        for step in chain:
            key = self._key(key, step)
            if key in self._failed:
                raise self._failed[key]
            if key not in self._named:
                title = name or self._unique(step.name())
                self._begin(title)
                try:
                    made = self._apply(step, artifact, key)
                    self._score(self._candidate(title, made), key, made, parent)
                except FAILURES as error:
                    self._failed[key] = error
                    if leaf:  # a baseline's failure ends the run
                        self.rows.append(failed_row(title, error))
                        self.events(Note(f"{title}: {error}"))
                    raise
                self._named[key] = title
            artifact, parent = Artifact.open(step_folder(self.work, step, key)), self._named[key]
        if leaf:
            self.leaves.append(parent)

    def _go_on(self, chains: list[tuple[Pass, ...]], root: str) -> None:
        """Called when every chain has its row: no more is tried here."""

    def _key(self, key: str, *chain: Pass) -> str:
        """`key_after`, which follows data and metric where a pass reads them."""
        return key_after(key, *chain, told=self._told if any(step.needs_data for step in chain) else None)

    @cached_property
    def _told(self) -> list[Any]:
        """What passes read: all splits of the data, not only the one that is scored, and the metric."""
        return [{s: self.data.fingerprint(s) for s in self.data.splits}, self.evaluator.task.metric]

    def _apply(self, step: Pass, source: Artifact, key: str) -> Artifact:
        """The result of `step`, made in a process of its own unless an earlier run left it."""
        folder = step_folder(self.work, step, key)
        if folder.exists():
            self.events(Note(f"{step.name()}: done before, not run again"))
            return Artifact.open(folder)
        with Child("optkit.passes.worker", threads=self.evaluator.plan.threads) as child:
            done = child.call(
                "run",
                events=self.events,
                step=step.name(),
                parameters=step.parameters(),
                source=str(source.path),
                final=str(folder),
                task=self.evaluator.task.name,
                data=None if self.calibration else self.data.name,
                calibration=str(self.calibration) if self.calibration else None,
                columns=asdict(self.columns),
                threads=self.evaluator.plan.threads,
                trust_remote_code=self.trust_remote_code,
                origin=str(self.checkpoint.path),
                metric=self.evaluator.task.metric,
            )
        write_json(peak_file(folder), done)
        return Artifact.open(folder)

    def _candidate(self, title: str, artifact: Artifact) -> Candidate:
        """`artifact` in its format's runtime; with examples of its own where a pass changed the tokenizer."""
        examples = self.evaluator.examples_for(artifact, self.checkpoint)
        return Candidate(
            title,
            str(artifact.path),
            DEFAULT_RUNTIME[artifact.format],
            encoded=examples,
            texts=self.evaluator.texts,
        )

    def _score(self, candidate: Candidate, key: str, artifact: Artifact, parent: str | None) -> None:
        """Add the row of `candidate`, without latency: from an earlier run, or by answering now."""
        asked = ["agreement"] if self.evaluator.asks_agreement else []
        settings = digest(key, self.evaluator.task.metric, *asked)
        file, outputs = self.work / f"row-{settings}.json", self.work / f"outputs-{settings}.npz"
        if parent is None:
            self._begin(candidate.name)
        if file.exists() and outputs.exists():
            row = row_from_dict(read_json(file, OutputError))
            # The recipe it was scored in may have named it otherwise.
            row.name, row.artifact, row.parent = candidate.name, candidate.artifact, parent
            self.events(Note(f"{candidate.name}: scored before, not scored again"))
        else:
            row = self.evaluator.row(candidate, outputs, self._baseline)
            row.parent = parent
            if parent is not None:
                made = artifact.lineage[-1]
                row.notes, row.seconds = made["notes"], made["seconds"]
                if peak_file(artifact.path).exists():  # not where a run ended between pass and note
                    row.pass_peak_rss_bytes = left_by_a_run(
                        PeakMemory, peak_file(artifact.path)
                    ).peak_rss_bytes
            write_json(file, asdict(row))
        if self._baseline is None:
            self._baseline = load_outputs(outputs)
        self.rows.append(row)
        self.candidates.append(candidate)
        what = "agreement" if math.isnan(row.score) else self.evaluator.task.metric
        score = f"{row.name}: {what} {quality(row):.4f}, {row.size_bytes / 1e6:.1f} MB"
        self.events(Note(score))

    def _time(self) -> None:
        """All latencies, in one interleaved measurement."""
        self.events(Step("latency, all side by side"))
        whole = [row for row in self.rows if row.verdict != "error" and row.name not in self._hopeless]
        names = {row.name for row in whole}
        measured = self.measured = self.evaluator.time(whole, [c for c in self.candidates if c.name in names])
        for name in (EAGER, self._tuned):  # no ratio, and no word on fp32, without them
            if error := measured[name].error:
                raise WorkerError(
                    f"Expected times of the baseline {name}, received an error: {error}",
                    hint="Run the same command again: what was made and scored is kept.",
                )
        self.doubts, self.noise = list(measured.doubts), measured.noise
        self.peaks, impossible = self.evaluator.roofline(whole)
        self.doubts += impossible
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        together = sum(row.peak_rss_bytes for row in self.rows)
        in_passes = max((row.pass_peak_rss_bytes or 0 for row in self.rows), default=0)
        self.peak_rss_bytes = own + max(together, in_passes)

    def _probe(self) -> None:
        """Ask each INT8 candidate whether it is INT8, and whether its answers depend on their batch.

        One that fails at that has verdict `error`, and the others go on.
        """
        by_name = {candidate.name: candidate for candidate in self.candidates}
        for row in self.rows:
            asked = row.name in self.leaves and row.name not in self._hopeless
            if asked and row.precision == "int8" and row.verdict != "error":
                self.events(Progress(f"probing {row.name}"))
                try:
                    row.probes = self.evaluator.probe(by_name[row.name])
                except OptkitError as error:
                    row.verdict, row.reasons = "error", [f"It failed while probed: {error.whole}"]
                    self.events(Note(f"{row.name}: {error}"))

    def _judge(self, row: Row) -> None:
        if row.verdict == "error":
            return
        if row.name not in self.leaves:
            row.verdict = "baseline" if row.name in (EAGER, self._tuned) else "step"
            return
        tuned = next(r for r in self.rows if r.name == self._tuned)
        row.reasons = self.recipe.gate.reasons(row, self.rows[0], tuned)
        row.verdict = "failed" if row.reasons else "passed"

    def _begin(self, name: str) -> None:
        self.events(Step(name, len(self.rows) + 1, max(self._total, len(self.rows) + 1)))

    def _unique(self, name: str) -> str:
        taken = {row.name for row in self.rows}
        return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in taken)
