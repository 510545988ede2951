"""One model → one report row: accuracy on the whole split, latency beside the baseline, memory, size.

Every model answers in a process that holds it alone; the harness under `benchmarking/` owns the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.benchmarking import batch_invariance
from optkit.benchmarking.accuracy import load_outputs, paired_drop, paired_drop_of
from optkit.benchmarking.environment import usable_cores
from optkit.benchmarking.fidelity import compare, distances
from optkit.benchmarking.latency import Measurement, measure
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.reference.tasks import reference_of
from optkit.benchmarking.roofline import Peak, Work, as_precision, bound_ms
from optkit.benchmarking.summaries import ANSWERED_AT_ONCE, TOKEN_BUDGET, latencies
from optkit.core.cpu import has_bf16
from optkit.core.files import digest, write_json
from optkit.core.process import Child
from optkit.data import images
from optkit.errors import OptkitError
from optkit.events import Events, Progress, silent
from optkit.models import tokenization
from optkit.models.limits import token_limit
from optkit.report.interval import Interval
from optkit.report.model import Row
from optkit.runtimes import RUNTIMES
from optkit.tasks.base import Labelled, Outputs, Task, open_task

#: The scenario that the headline speedup and the gate speak of: one text at a time, real lengths.
HEADLINE = Shape(1, "data")
#: Flips kept per row, the most confident first.
MAX_FLIPS = 200


@dataclass
class Evaluator:
    """Measures models of one task on one labelled split.

    `encoded_file` is `labelled.encoded` on disk, for the worker processes. `asks_agreement`: rows say how
    near their answers are to the first row's, also where there are labels.
    """

    task: Task
    labelled: Labelled
    encoded_file: Path
    plan: Plan
    events: Events = silent
    target: str = "cpu"
    asks_agreement: bool = False

    @property
    def unlabelled(self) -> bool:
        """Whether no right answer is known: then rows have an agreement and no score."""
        return not any(reference is not None for reference in self.labelled.references)

    @cached_property
    def texts(self) -> str | None:
        """A file of the raw inputs, for shapes timed from text to answer; None where there are none."""
        if all(shape.tokens != "text" for shape in self.plan.shapes):
            return None
        inputs = stored(self.labelled.inputs or self.labelled.sources, self.encoded_file.with_name("images"))
        file = self.encoded_file.with_name(f"texts-{digest(inputs)}.json")
        if not file.exists():
            write_json(file, inputs)
        return str(file)

    def examples_for(self, artifact: Artifact, checkpoint: Artifact) -> str | None:
        """A file of the examples as `artifact` reads them; None where it reads as `checkpoint` does."""
        own, first = tokenization.reader(artifact.path), tokenization.reader(checkpoint.path)
        if own is None or own == first:
            return None
        file = self.encoded_file.with_name(f"examples-{own[:12]}-{self.labelled.encoded.digest()[:12]}.npz")
        if not file.exists():
            task = open_task(artifact, self.task.name, self.task.metric)
            task.encode(self.labelled.inputs).save(file)
        return str(file)

    def outputs(self, candidate: Candidate, file: Path) -> int:
        """Write raw outputs for every example to `file`; the peak memory of the process, in bytes."""
        with Child("optkit.benchmarking.worker", self.plan.threads, self.plan.timeout_s) as child:
            child.call(
                "load", artifact=candidate.artifact, runtime=candidate.runtime, options=candidate.options
            )
            child.call("attach", encoded=candidate.encoded or str(self.encoded_file))
            done = child.call("evaluate", out=str(file), batch_size=ANSWERED_AT_ONCE, max_tokens=TOKEN_BUDGET)
        return done["peak_rss_bytes"]

    def reference(self, candidate: Candidate, file: Path) -> tuple[int, dict[str, Any]]:
        """Write transformers' raw outputs for every example to `file`; the peak memory, in bytes, and who
        answered (`by`), with `doubts`.

        Where nobody can be asked but our own session, that answers, and a doubt says why.
        """
        if why := self._no_reference():
            doubt = f"The baseline is answered by optkit's own torch session: {why}."
            return self.outputs(candidate, file), {"by": "optkit", "doubts": [doubt]}
        inputs = self.encoded_file.with_name("inputs.json")
        write_json(inputs, stored(self.labelled.inputs, self.encoded_file.with_name("images")))
        options = {name: value for name, value in candidate.options.items() if name != "task"}
        with Child("optkit.benchmarking.reference.worker", self.plan.threads, self.plan.timeout_s) as child:
            done = child.call(
                "run",
                events=self.events,
                artifact=candidate.artifact,
                task=self.task.name,
                metric=self.task.metric,
                inputs=str(inputs),
                encoded=candidate.encoded or str(self.encoded_file),
                out=str(file),
                options=options,
                batch_size=ANSWERED_AT_ONCE,
                max_tokens=TOKEN_BUDGET,
                threads=self.plan.threads,
            )
        return done["peak_rss_bytes"], {"by": "transformers", "doubts": done["doubts"]}

    def _no_reference(self) -> str | None:
        """Why transformers cannot be asked about these examples; None where it can."""
        if (users_way := reference_of(self.task)) is None:
            return f"there is no other way to run {self.task.name} here"
        if not self.labelled.inputs:
            return "the examples are known as tokens only"
        if not find_spec(users_way.package):
            return "sentence-transformers, which its users run it by, is not installed"
        return None

    def row(
        self, candidate: Candidate, file: Path, baseline: Outputs | None, plain: bool | None = None
    ) -> Row:
        """Everything about `candidate` but its latency; its raw outputs are left in `file`.

        `baseline` holds the first row's outputs (None: this is the first row). With `plain` (None: the first
        row) a checkpoint is answered by transformers from end to end (`optkit.benchmarking.reference`), and
        ours compared with it: CheckpointError or PassError where they differ, doubts in
        `row.notes["reference"]`.
        """
        self.events(Progress("answering every example"))
        notes = _attention(Artifact.open(candidate.artifact))
        if (baseline is None if plain is None else plain) and is_plain(candidate):
            peak, notes["reference"] = self.reference(candidate, file)
        else:
            peak = self.outputs(candidate, file)
        outputs = load_outputs(file)
        row = plain_row(candidate)
        row.notes, row.peak_rss_bytes, row.agreement = notes, peak, 1.0
        if baseline is not None and (self.unlabelled or self.asks_agreement):
            row.fidelity = self.fidelity(baseline, outputs)
        if self.unlabelled:
            row.agreement = row.fidelity.get("agreement", 1.0)
            return row
        answers = self.task.answers(outputs)
        score = self.task.score(answers, self.labelled.references)
        row.score, row.score_delta = score, 0.0
        row.outcomes = outcomes_text(self.task.outcomes(answers, self.labelled.references))
        if baseline is not None:
            before = self.task.answers(baseline)
            row.score_delta = score - self.task.score(before, self.labelled.references)
            row.agreement = self.task.agreement(answers, before)
            row.drop = self.drop(before, answers)
            row.flips = self.flips(baseline, outputs)
        return row

    def time(self, rows: Sequence[Row], candidates: Sequence[Candidate]) -> Measurement:
        """Fill in latency, speedup, memory and load time of all `rows`, measured side by side.

        One interleaved measurement for all of them: every ratio in the report is then free of the
        drift between the first pass and the last, which on a shared machine can be twofold. Where the
        first candidate fails there are no ratios: no other takes its place.
        """
        measured = measure(candidates, self.encoded_file, self.plan, events=self.events)
        first = measured[candidates[0].name]
        for row in rows:
            mine = measured[row.name]
            row.latency = latencies(mine, None if mine is first else first, self.labelled.encoded)
            row.gpu = mine.gpu
            row.load_ms, row.cold_ms, row.load_rss_bytes = mine.load_ms, mine.cold_ms, mine.load_rss_bytes
            row.peak_rss_bytes = max(row.peak_rss_bytes, mine.peak_rss_bytes or 0)
            headline = row.at(HEADLINE.batch, HEADLINE.tokens) or (row.latency[0] if row.latency else None)
            row.speedup = headline.speedup if headline else None
            if mine.error:
                row.verdict, row.reasons = "error", [mine.error]
        return measured

    def roofline(self, rows: Sequence[Row]) -> tuple[Peak | None, list[str]]:
        """Fill in the share of the bound at fixed shapes; the machine's peaks, and doubts about them.

        Where the peaks cannot be measured they are None, and a doubt says why. An engine whose work nobody
        can count (TensorRT) is counted as what it was made from.
        """
        doubts: list[str] = []
        try:
            peak = self._peak()
        except OptkitError as error:  # the times stand without it
            return None, [f"This machine's peaks could not be measured: {error.whole}"]
        counted = {row.name: self._work(row) for row in rows}
        for row in rows:
            fixed = [x for x in row.latency if isinstance(x.tokens, int)]
            own, source = counted[row.name], counted.get(row.parent or "", {})
            # A graph says itself what is in 8 bits; a checkpoint may be served in half precision.
            plain = own and Artifact.open(row.artifact).format != "hf" and self.target == "cpu"
            for latency in fixed:
                work = (own or source).get((latency.batch, latency.tokens))
                if work is None:
                    continue
                work = work if plain else as_precision(work, row.precision)
                latency.bound_share = round(bound_ms(work, peak) / latency.p50_ms, 4)
            if impossible := [x for x in fixed if (x.bound_share or 0) > 1]:
                shape = max(impossible, key=lambda x: x.bound_share or 0)
                doubts.append(
                    f"{row.name} at {shape.batch}×{shape.tokens} is {shape.bound_share:.2f} times as fast as "
                    "the measured peak allows: the probe was disturbed, or the model leaves work out."
                )
        return peak, doubts

    def _peak(self) -> Peak:
        """What this machine does at best, each library in a process of its own."""
        threads = self.plan.threads or usable_cores()
        if self.target == "cuda":
            with Child("optkit.benchmarking.roofline_worker", threads=threads) as child:
                return Peak(**child.call("probe_gpu"))
        with Child("optkit.benchmarking.roofline_worker", threads=threads) as child:
            peak = Peak(**child.call("probe", threads=threads))
        if has_bf16() and find_spec("torch"):
            with Child("optkit.benchmarking.roofline_worker", threads=threads) as child:
                peak = replace(peak, bf16=child.call("probe_bf16", threads=threads))
        return peak

    def _work(self, row: Row) -> dict[tuple[int, int | str], Work]:
        """What the model of `row` computes at each fixed shape; {} where nobody can count it."""
        shapes = [(shape.batch, shape.tokens) for shape in self.plan.shapes if shape.fixed]
        if not shapes or row.runtime not in RUNTIMES.built_in or not row.latency:
            return {}
        try:
            with Child("optkit.benchmarking.roofline_worker", timeout_s=self.plan.timeout_s) as child:
                task = self.task.name if self.task else None  # none where only times are measured
                found = child.call("count", artifact=row.artifact, shapes=shapes, task=task)
        except OptkitError:  # an unusual model: its times stand without this
            return {}
        return {shape: Work(**x) for shape, x in zip(shapes, found or ())}

    def probe(self, candidate: Candidate) -> dict[str, Any]:
        """What `optkit.benchmarking.probe` finds out about an INT8 model: `int8` and `neighbours`."""
        threads = {"threads": self.plan.threads} if self.plan.threads else {}
        with TemporaryDirectory(prefix="optkit-probe-") as folder:
            with Child("optkit.benchmarking.probe", self.plan.threads, self.plan.timeout_s) as child:
                share = child.call(
                    "ask",
                    artifact=candidate.artifact,
                    runtime=candidate.runtime,
                    options={**threads, **candidate.options},
                    encoded=candidate.encoded or str(self.encoded_file),
                    out=folder,
                    longest=token_limit(Artifact.open(candidate.artifact).config),
                )
            found = {n: load_outputs(Path(folder) / f"{n}.npz") for n in ("alone", "padded", "batched")}
        whole = self.labelled.encoded.windows is None or self.task.generates
        answers = self.task.answers if whole else batch_invariance.best
        return {"int8": share, "neighbours": batch_invariance.compare(found, answers).to_dict()}

    def fidelity(self, before: Outputs, after: Outputs) -> dict[str, Any]:
        """How near `after` is to `before`, the first row's outputs, in all and by length."""
        encoded = self.labelled.encoded
        lengths = encoded.lengths if encoded.ragged else np.ones(len(encoded), dtype=np.int64)
        if encoded.windows is not None:
            lengths = np.bincount(encoded.windows.owner, weights=lengths).astype(np.int64)
        same, moved = self.task.same(before, after), distances(before, after)
        return {**compare(same & np.isfinite(moved), moved, lengths), "sameness": self.task.sameness}

    def drop(self, before: np.ndarray, after: np.ndarray) -> Interval:
        """The paired loss in the metric, with its 95% interval."""
        references = self.labelled.references
        was, now = self.task.outcomes(before, references), self.task.outcomes(after, references)
        if was is not None and now is not None:
            paired = paired_drop(was, now)
        else:
            paired = paired_drop_of(self.task.score, before, after, references)
        return Interval(paired.drop, paired.low, paired.high)

    def flips(self, before: Outputs, after: Outputs) -> list[dict[str, Any]]:
        """The examples whose prediction differs from the baseline's, most confident first."""
        a, b = self.task.answers(before), self.task.answers(after)
        changed = [i for i in range(len(a)) if not np.array_equal(a[i], b[i])]
        if not changed or a.dtype.kind == "f":  # a regression value always differs in its last digits
            return []
        old = self.task.decode({name: [rows[i] for i in changed] for name, rows in before.items()})
        new = self.task.decode({name: [rows[i] for i in changed] for name, rows in after.items()})
        flips = [
            {
                "text": self.labelled.sources[i],
                "reference": self.task.name_of(self.labelled.references[i]),
                "baseline": x.label,
                "candidate": y.label,
                "baseline_confidence": x.score,
                "candidate_confidence": y.score,
            }
            for i, x, y in zip(changed, old, new)
        ]
        return sorted(flips, key=lambda flip: -flip["candidate_confidence"])[:MAX_FLIPS]


def is_plain(candidate: Candidate) -> bool:
    """Whether this is a checkpoint as its user runs it: in torch, fp32, nothing prepared."""
    usual = {"task", "trust_remote_code", "device", "attention"}
    return (
        candidate.runtime == "torch"
        and set(candidate.options) <= usual
        and Artifact.open(candidate.artifact).format == "hf"
    )


def stored(inputs: Sequence[Any], folder: Path) -> list[Any]:
    """`inputs` as JSON values: texts as they are, images as paths, where need be of files in `folder`."""
    return [x if _is_text(x) else images.stored(x, folder, i) for i, x in enumerate(inputs)]


def _is_text(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, list | tuple) and all(isinstance(x, str) for x in item))


def _attention(artifact: Artifact) -> dict[str, Any]:
    """What `export-onnx` noted of the attention of a model that was made from its graph."""
    steps = [step.get("notes", {}) for step in artifact.lineage if step.get("pass") == "export-onnx"]
    names = ("attention", "attention_note")
    return {name: str(step[name]) for step in steps[-1:] for name in names if name in step}


def doubts_of(rows: Sequence[Row]) -> list[str]:
    """What the comparison of the baselines with transformers left to say, and where attention is plain."""
    found = [doubt for row in rows for doubt in row.notes.get("reference", {}).get("doubts", ())]
    found += [
        f"{row.name}: attention is {row.notes['attention_note']}."
        for row in rows
        if row.notes.get("attention") == "plain" and "attention_note" in row.notes
    ]
    return list(dict.fromkeys(found))


def plain_row(candidate: Candidate) -> Row:
    """What is known of `candidate` before it answers: no score, no latency."""
    artifact = Artifact.open(candidate.artifact)
    row = failed_row(candidate.name, None)
    row.artifact, row.runtime = str(candidate.artifact), candidate.runtime or ""
    row.precision, row.size_bytes = artifact.precision, artifact.size_bytes
    row.verdict = "baseline"
    return row


def failed_row(name: str, error: OptkitError | None) -> Row:
    """The row of a candidate that could not be made or could not answer."""
    return Row(
        name=name,
        artifact="",
        runtime="",
        precision="",
        size_bytes=0,
        score=nan,
        score_delta=nan,
        agreement=nan,
        latency=[],
        speedup=None,
        peak_rss_bytes=0,
        seconds=0.0,
        verdict="error",
        reasons=[] if error is None else [error.whole],
    )


def first_sound(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """`rows` with the first that answered in front, since the others are compared to it; a doubt if it moved.

    One of them must have answered.
    """
    first = next(row for row in rows if row.verdict != "error")
    if first is rows[0]:
        return rows, []
    doubt = f"{rows[0].name} failed, so all models are compared to {first.name}."
    return [first, *(row for row in rows if row is not first)], [doubt]


def outcomes_text(outcomes: np.ndarray | None) -> str:
    """Right or wrong as a 1 or a 0 per example; "" for anything else, such as a share of a token overlap."""
    if outcomes is None or not np.isin(outcomes, (0, 1)).all():
        return ""
    return "".join("1" if right else "0" for right in outcomes)
