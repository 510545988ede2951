"""`compress`: THE loop. Run a pass, score its result, save; then time all, gate, keep the best.

Each step's artifact and score lie in a work folder beside the output until the end, under names
that hash everything they depend on: the same command run again goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optkit.artifact import (
    MANIFEST,
    REPORTS,
    Artifact,
    check_free,
    library_versions,
    read_json,
    staged,
    write_json,
    writing,
)
from optkit.bench.accuracy import load_outputs
from optkit.bench.environment import NoiseLedger, describe
from optkit.bench.latency import Candidate, Plan, Shape
from optkit.bench.roofline import Peak
from optkit.checkpoint import fetch
from optkit.data import Data
from optkit.errors import DataError, OptkitError
from optkit.evaluation import Evaluator
from optkit.passes.base import Pass, make
from optkit.process import Child
from optkit.recipe import Recipe
from optkit.report.model import Report, Row, render, row_from_dict
from optkit.session import DEFAULT_RUNTIME
from optkit.task import Columns, Outputs, open_task

#: batch × tokens; "data" is the data's own lengths.
SHAPES = ("1xdata", "1x16", "1x32", "1x128", "8x128")
#: The two baselines: torch eager, and ONNX Runtime in fp32 with fused attention.
EAGER, TUNED = "torch-fp32", "onnxruntime-fp32"
Listener = Callable[[dict[str, Any]], None]


def compress(
    source: str | Path,
    recipe: Recipe,
    *,
    data: str | Path | None = None,
    out: str | Path,
    task: str | None = None,
    metric: str | None = None,
    columns: Columns = Columns(),
    split: str = "validation",
    shapes: tuple[str, ...] | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    limit: int | None = None,
    force: bool = False,
    keep_steps: bool = False,
    trust_remote_code: bool = False,
    listener: Listener | None = None,
    command: str = "",
) -> Report:
    """Compress the checkpoint at `source` by `recipe`, measure every step, keep the best that passes.

    `source` is a folder or a hub name; `data` as `optkit.data.Data` takes it; `limit` bounds the
    examples measured (None: the whole split). The folder `out` gets the chosen artifact and
    report.json, .md, .html. When no candidate passes the gate, the one with the best score is
    there, `report.gate["passed"]` is False, and the command line exits with 3.

    Raises an OptkitError that says what was wrong; then nothing lies under `out`.

    >>> import optkit
    >>> optkit.compress("ckpt", optkit.Recipe.int8(), data="sst2", out="models/x")  # doctest: +SKIP
    """
    begun = time.monotonic()
    out = Path(out)
    check_free(out, force)
    if data is None:
        raise DataError(
            "Compressing needs labelled data to prove what it cost; received none.",
            hint="Give --data: a folder with train and validation files, one file, or a hub data set.",
        )
    listen = listener or (lambda event: None)
    listen({"event": "note", "text": f"reading {source} and {data}"})
    checkpoint = fetch(source, trust_remote_code)
    model_task = open_task(checkpoint, task, metric)
    examples = Data(str(data))
    rows = examples.split(split)
    if limit is not None and limit < len(rows):
        rows = rows.select(range(limit))
    labelled = model_task.read(rows, columns)

    threads = threads or os.cpu_count() or 1
    plan = Plan(
        shapes=tuple(Shape.parse(s) for s in shapes or SHAPES),
        threads=threads,
        **{k: v for k, v in {"rounds": rounds, "processes": processes}.items() if v is not None},
    )
    work = out.parent / f".{out.name}.work"
    encoded_file = work / "examples.npz"
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(".*.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        labelled.encoded.save(encoded_file)

    run = _Run(
        checkpoint=checkpoint,
        recipe=recipe,
        evaluator=Evaluator(model_task, labelled, encoded_file, plan, listen),
        data=examples,
        columns=columns,
        split=split,
        work=work,
        trust_remote_code=trust_remote_code,
        listen=listen,
    )
    with writing(work):
        run.all()
    chosen = choose(run.rows, run.leaves)
    passed = chosen is not None and chosen.verdict == "passed"
    report = Report(
        task=model_task.name,
        metric=model_task.metric,
        data={
            "name": str(data),
            "split": split,
            "held_out": examples.is_held_out(split),
            "examples": len(labelled.references),
            "sha256": examples.fingerprint(split),
            "truncated": labelled.encoded.truncated,
        },
        target=recipe.target,
        environment={
            **describe(threads),
            "versions": library_versions(),
            "peaks": asdict(run.peaks) if run.peaks else None,
        },
        rows=run.rows,
        chosen=chosen.name if chosen else None,
        gate={**recipe.gate.to_dict(), "conditions": recipe.gate.describe(), "passed": passed},
        recipe=recipe.to_dict(),
        source=str(source),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        doubts=_doubts(run, recipe),
        labels=list(getattr(model_task, "labels", [])),
        seconds=round(time.monotonic() - begun, 1),
        peak_rss_bytes=run.peak_rss_bytes,
    )
    for row in run.rows:
        if row is not chosen and not keep_steps and Path(row.artifact).parent == work:
            row.artifact = ""  # it goes with the work folder
    _write(report, chosen, out, force)
    if not keep_steps:
        shutil.rmtree(work, ignore_errors=True)
    return report


def choose(rows: list[Row], leaves: list[str]) -> Row | None:
    """The fastest candidate that passed; when none did, the one with the best score."""
    candidates = [r for r in rows if r.name in leaves and r.verdict in ("passed", "failed")]
    passed = [r for r in candidates if r.verdict == "passed"]
    if passed:
        return max(passed, key=lambda r: r.speedup.value if r.speedup else 0.0)
    return max(candidates, key=lambda r: r.score, default=None)


@dataclass
class _Run:
    """The state of one loop: the rows so far, and what each step's result is called."""

    checkpoint: Artifact
    recipe: Recipe
    evaluator: Evaluator
    data: Data
    columns: Columns
    split: str
    work: Path
    trust_remote_code: bool
    listen: Listener
    rows: list[Row] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0
    noise: list[str] = field(default_factory=list)
    peaks: Peak | None = None
    candidates: list[Candidate] = field(default_factory=list)
    _total: int = 0
    _baseline: Outputs | None = None
    _named: dict[str, str] = field(default_factory=dict)

    def all(self) -> None:
        """The baselines, then every chain of the recipe (shared steps run once), then all latencies."""
        root = _hash(
            self.checkpoint.fingerprint(),
            self.data.fingerprint(self.split),
            len(self.evaluator.labelled.references),
            asdict(self.columns),
            library_versions(),
        )
        chains = self.recipe.chains()
        tuned = (make("export-onnx", {}),)
        distinct = {_hash(*map(_spec, chain[: i + 1])) for chain in chains for i in range(len(chain))}
        self._total = 2 + len(distinct - {_hash(_spec(tuned[0]))})
        self._score(Candidate(EAGER, str(self.checkpoint.path), "torch"), root, self.checkpoint, None)
        self._chain(tuned, root, leaf=False, name=TUNED)
        for chain in chains:
            self._chain(chain, root, leaf=True)
        self._time(root)
        for row in self.rows:
            self._judge(row)
            self.listen({"event": "row", "row": row})

    def _chain(self, chain: tuple[Pass, ...], root: str, leaf: bool, name: str | None = None) -> None:
        """Run the passes of `chain` that have not run yet, and score each result."""
        artifact, key, parent = self.checkpoint, root, EAGER
        for step in chain:
            key = _hash(key, _spec(step))
            if key not in self._named:
                title = name or self._unique(step.name())
                self._begin(title)
                made = self._apply(step, artifact, key)
                runtime = DEFAULT_RUNTIME[made.format]
                self._score(Candidate(title, str(made.path), runtime), key, made, parent)
                self._named[key] = title
            artifact, parent = Artifact.open(self._folder(step, key)), self._named[key]
        if leaf:
            self.leaves.append(parent)

    def _apply(self, step: Pass, source: Artifact, key: str) -> Artifact:
        """The result of `step`, made in a process of its own unless an earlier run left it."""
        folder = self._folder(step, key)
        if folder.exists():
            self.listen({"event": "note", "text": f"{step.name()}: done before, not run again"})
            return Artifact.open(folder)
        with Child("optkit.passes.worker", threads=self.evaluator.plan.threads) as child:
            done = child.call(
                "run",
                listener=self.listen,
                step=step.name(),
                parameters=step.parameters(),
                source=str(source.path),
                final=str(folder),
                task=self.evaluator.task.name,
                data=self.data.name,
                columns=asdict(self.columns),
                threads=self.evaluator.plan.threads,
                trust_remote_code=self.trust_remote_code,
            )
        write_json(_peak_file(folder), done)
        return Artifact.open(folder)

    def _score(self, candidate: Candidate, key: str, artifact: Artifact, parent: str | None) -> None:
        """Add the row of `candidate`, without latency: from an earlier run, or by answering now."""
        settings = _hash(key, self.evaluator.task.metric)
        file, outputs = self.work / f"row-{settings}.json", self.work / f"outputs-{settings}.npz"
        if parent is None:
            self._begin(candidate.name)
        if file.exists() and outputs.exists():
            row = row_from_dict(read_json(file, OptkitError))
            self.listen({"event": "note", "text": f"{candidate.name}: scored before, not scored again"})
        else:
            row = self.evaluator.row(candidate, outputs, self._baseline)
            row.parent = parent
            if parent is not None:
                made = artifact.lineage[-1]
                row.notes, row.seconds = made["notes"], made["seconds"]
                row.pass_peak_rss_bytes = read_json(_peak_file(artifact.path), OptkitError)["peak_rss_bytes"]
            write_json(file, asdict(row))
        if self._baseline is None:
            self._baseline = load_outputs(outputs)
        self.rows.append(row)
        self.candidates.append(candidate)
        score = f"{row.name}: {self.evaluator.task.metric} {row.score:.4f}, {row.size_bytes / 1e6:.1f} MB"
        self.listen({"event": "note", "text": score})

    def _time(self, root: str) -> None:
        """All latencies in one interleaved measurement."""
        self.listen({"event": "step", "name": "latency, all side by side", "index": 0, "total": 0})
        ledger = NoiseLedger()
        self.evaluator.time(self.rows, self.candidates)
        self.noise = ledger.doubts()
        self.peaks, impossible = self.evaluator.roofline(self.rows)
        self.noise += impossible
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        together = sum(row.peak_rss_bytes for row in self.rows)
        in_passes = max((row.pass_peak_rss_bytes or 0 for row in self.rows), default=0)
        self.peak_rss_bytes = own + max(together, in_passes)

    def _judge(self, row: Row) -> None:
        if row.verdict == "error":
            return
        if row.name not in self.leaves:
            row.verdict = "baseline" if row.name in (EAGER, TUNED) else "step"
            return
        tuned = next(r for r in self.rows if r.name == TUNED)
        row.reasons = self.recipe.gate.reasons(row, self.rows[0], tuned)
        row.verdict = "failed" if row.reasons else "passed"

    def _begin(self, name: str) -> None:
        self.listen({"event": "step", "name": name, "index": len(self.rows) + 1, "total": self._total})

    def _folder(self, step: Pass, key: str) -> Path:
        return self.work / f"{step.name()}-{key}"

    def _unique(self, name: str) -> str:
        taken = {row.name for row in self.rows}
        return next(n for n in (name, *(f"{name}-{i}" for i in range(2, 1000))) if n not in taken)


def _peak_file(folder: Path) -> Path:
    """Where the peak memory of the pass that made `folder` is noted, for a run that resumes."""
    return folder.with_name(f"{folder.name}.peak.json")


def _spec(step: Pass) -> dict[str, Any]:
    return {"pass": step.name(), **step.parameters()}


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _doubts(run: _Run, recipe: Recipe) -> list[str]:
    """What a reader should know before believing the report."""
    doubts = list(run.noise)
    count = len(run.evaluator.labelled.references)
    truncated = run.evaluator.labelled.encoded.truncated
    if truncated:
        doubts.append(f"{truncated} of {count} texts are longer than the model's maximum and were truncated.")
    if run.data.is_held_out(run.split):
        doubts.append(f"The data has no {run.split} split: a tenth was held out of the rest.")
    allowed = recipe.gate.allowed_drop(run.rows[0].score)
    for row in run.rows:
        if allowed is not None and row.verdict == "passed" and row.drop and row.drop.high > allowed:
            doubts.append(
                f"{row.name}: {count} examples are too few to promise a drop of at most {allowed:.4f}: "
                f"the 95% interval of its drop reaches {row.drop.high:.4f}."
            )
    return doubts


def _write(report: Report, chosen: Row | None, out: Path, force: bool) -> None:
    with staged(out, force) as folder:
        if chosen is not None:
            source = Path(chosen.artifact)
            for file in source.iterdir():
                if file.name not in REPORTS:
                    shutil.copyfile(file, folder / file.name)
            manifest = read_json(folder / MANIFEST, OptkitError)
            manifest["task"] = report.task
            manifest["runtime"] = {"name": chosen.runtime, "options": {}}
            manifest["gate"] = report.gate
            write_json(folder / MANIFEST, manifest)
            chosen.artifact = str(out)
        for format, name in (("json", "report.json"), ("markdown", "report.md"), ("html", "report.html")):
            (folder / name).write_text(render(report, format), encoding="utf-8")
