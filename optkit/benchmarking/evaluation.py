"""How models answer a whole split, and what they are measured with: latency, memory, the roofline.

Every model answers in a process that holds it alone; the harness under `benchmarking/` owns the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from optkit.benchmarking import batch_invariance
from optkit.benchmarking.accuracy import load_outputs, paired_drop, paired_drop_of
from optkit.benchmarking.environment import usable_cores
from optkit.benchmarking.fidelity import compare, distances
from optkit.benchmarking.latency import Measurement, measure
from optkit.benchmarking.plan import Candidate, Plan
from optkit.benchmarking.reference.tasks import reference_of
from optkit.benchmarking.roofline import Peak, Work, as_precision, bound_ms
from optkit.benchmarking.summaries import ANSWERED_AT_ONCE, TOKEN_BUDGET, Bounds
from optkit.core.artifact import Artifact
from optkit.core.cpu import has_bf16
from optkit.core.files import digest, write_json
from optkit.core.process import Child
from optkit.data import images
from optkit.errors import OptkitError
from optkit.events import Events, Progress, silent
from optkit.models import tokenization
from optkit.models.limits import token_limit
from optkit.report.interval import Interval
from optkit.report.model import Answers
from optkit.runtimes import RUNTIMES
from optkit.tasks.base import Labelled, Outputs, Task, open_task
from optkit.tasks.labelled import Input

#: Flips kept per row, the most confident first.
MAX_FLIPS = 200
#: Of these, how many have pictures where the task draws them: some 30 kB each.
MOST_DRAWN = 12


@dataclass(frozen=True)
class Model:
    """A model that has answered. `parent` names the one that its last pass was applied to."""

    candidate: Candidate
    answers: Answers
    parent: str | None = None

    @property
    def name(self) -> str:
        return self.candidate.name


@dataclass(frozen=True)
class Failure:
    """A model that could not be made or could not answer, and why."""

    name: str
    error: OptkitError


@dataclass(frozen=True)
class Evaluator:
    """Measures models of one task on one labelled split.

    `encoded_file` is `labelled.encoded` on disk, for the worker processes. `asks_agreement`: models say how
    near their answers are to the first one's, also where there are labels.
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
        reader, first = tokenization.reader(artifact.path), tokenization.reader(checkpoint.path)
        if reader is None or reader == first:
            return None
        file = self.encoded_file.with_name(
            f"examples-{reader[:12]}-{self.labelled.encoded.digest()[:12]}.npz"
        )
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

    def answer(
        self, candidate: Candidate, file: Path, baseline: Outputs | None, plain: bool | None = None
    ) -> Answers:
        """How `candidate` answers every example; its raw outputs are left in `file`.

        `baseline` holds the first model's outputs (None: this is the first). With `plain` (None: the first) a
        checkpoint is answered by transformers from end to end (`optkit.benchmarking.reference`), and ours
        compared with it: CheckpointError or PassError where they differ, doubts in `notes["reference"]`.
        """
        self.events(Progress("answering every example"))
        artifact = Artifact.open(candidate.artifact)
        notes = _attention(artifact)
        if (baseline is None if plain is None else plain) and is_plain(candidate):
            peak, notes["reference"] = self.reference(candidate, file)
        else:
            peak = self.outputs(candidate, file)
        outputs = self.task.comparable(artifact, load_outputs(file))
        known: dict[str, Any] = {
            "precision": artifact.precision,
            "size_bytes": artifact.size_bytes,
            "peak_rss_bytes": peak,
            "notes": notes,
            "agreement": 1.0,
        }
        if baseline is not None and (self.unlabelled or self.asks_agreement):
            known["fidelity"] = self.fidelity(baseline, outputs)
        if self.unlabelled:
            return Answers(**{**known, "agreement": known.get("fidelity", {}).get("agreement", 1.0)})
        answers, references = self.task.answers(outputs), self.labelled.references
        score = self.task.score(answers, references)
        known |= {"score": score, "score_delta": 0.0}
        known["outcomes"] = outcomes_text(self.task.outcomes(answers, references))
        known["table"] = [asdict(line) for line in self.task.table(answers, references)]
        if baseline is not None:
            before = self.task.answers(baseline)
            known["score_delta"] = score - self.task.score(before, references)
            known["agreement"] = self.task.agreement(answers, before)
            known["drop"] = self.drop(before, answers)
            known["flips"] = self.flips(baseline, outputs)
        return Answers(**known)

    def measure(self, models: Sequence[Model]) -> Measurement:
        """The latency of all `models`, side by side.

        One interleaved measurement for all of them: every ratio in the report is then free of the
        drift between the first pass and the last, which on a shared machine can be twofold. Where the
        first fails there are no ratios: no other takes its place.
        """
        return measure([m.candidate for m in models], self.encoded_file, self.plan, events=self.events)

    def roofline(self, models: Sequence[Model]) -> tuple[Peak | None, dict[str, Bounds], list[str]]:
        """The machine's peaks, and by model the least milliseconds that they allow at each fixed shape.

        Where the peaks cannot be measured they are None, and a doubt says why. An engine whose work nobody
        can count (TensorRT) is counted as what it was made from.
        """
        try:
            peak = self._peak()
        except OptkitError as error:  # the times stand without it
            return None, {}, [f"This machine's peaks could not be measured: {error.whole}"]
        counted = {model.name: self._work(model) for model in models}
        bounds: dict[str, Bounds] = {}
        for model in models:
            work = counted[model.name] or counted.get(model.parent or "", {})
            # A graph says itself what is in 8 bits; a checkpoint may be served in half precision.
            is_graph = Artifact.open(model.candidate.artifact).format != "hf"
            if not (counted[model.name] and is_graph and self.target == "cpu"):
                work = {shape: as_precision(one, model.answers.precision) for shape, one in work.items()}
            bounds[model.name] = {shape: bound_ms(one, peak) for shape, one in work.items()}
        return peak, bounds, []

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

    def _work(self, model: Model) -> dict[tuple[int, int | str], Work]:
        """What `model` computes at each fixed shape; {} where nobody can count it."""
        shapes = [(shape.batch, shape.tokens) for shape in self.plan.shapes if shape.fixed]
        writes = self.task is not None and self.task.has_encoder  # how much, no shape says
        if not shapes or writes or model.candidate.runtime not in RUNTIMES.built_in:
            return {}
        try:
            with Child("optkit.benchmarking.roofline_worker", timeout_s=self.plan.timeout_s) as child:
                task = self.task.name if self.task else None  # none where only times are measured
                counted = child.call("count", artifact=model.candidate.artifact, shapes=shapes, task=task)
        except OptkitError:  # an unusual model: its times stand without this
            return {}
        return {shape: Work(**x) for shape, x in zip(shapes, counted or ())}

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
            outputs = {n: load_outputs(Path(folder) / f"{n}.npz") for n in ("alone", "padded", "batched")}
        whole = self.labelled.encoded.windows is None or self.task.generates
        answers = self.task.answers if whole else batch_invariance.best
        return {"int8": share, "neighbours": batch_invariance.compare(outputs, answers).to_dict()}

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
        a = self.task.answers(before)
        changed = np.flatnonzero(~self.task.same(before, after)).tolist()
        # A regression value always differs in its last digits; a text has no confidence.
        if not changed or a.dtype.kind == "f" or self.task.generates:
            return []
        old = self.task.decode({name: [rows[i] for i in changed] for name, rows in before.items()})
        new = self.task.decode({name: [rows[i] for i in changed] for name, rows in after.items()})
        if not hasattr(old[0], "label"):  # vectors have none
            return []
        references, inputs = self.labelled.references, self.labelled.inputs
        flips = []
        for i, x, y in zip(changed, old, new):
            flip = {
                "text": self.labelled.sources[i],
                "reference": self.task.name_of(references[i]),
                "baseline": x.label,
                "candidate": y.label,
                "baseline_confidence": getattr(x, "score", None),
                "candidate_confidence": getattr(y, "score", None),
            }
            if flip["reference"] is None or x.label != y.label:
                flips.append((flip, i, x, y))
        flips.sort(key=lambda changed: -(changed[0]["candidate_confidence"] or 0.0))
        for flip, i, x, y in flips[: MOST_DRAWN if len(inputs) == len(references) else 0]:
            flip |= self.task.drawn(inputs[i], references[i], x, y)
        return [flip for flip, *_ in flips[:MAX_FLIPS]]


def is_plain(candidate: Candidate) -> bool:
    """Whether this is a checkpoint as its user runs it: in torch, fp32, nothing prepared."""
    usual = {"task", "trust_remote_code", "device", "attention"}
    return (
        candidate.runtime == "torch"
        and set(candidate.options) <= usual
        and Artifact.open(candidate.artifact).format == "hf"
    )


def stored(inputs: Sequence[Input], folder: Path) -> list[Input]:
    """`inputs` as JSON values: texts as they are, images as paths, where need be of files in `folder`."""
    return [_stored(x, folder, i) for i, x in enumerate(inputs)]


def _stored(item: Input, folder: Path, number: int) -> Input:
    if _is_text(item):
        return item
    if isinstance(item, tuple):  # an image and its labels
        return [_stored(part, folder, number) for part in item]
    return images.stored(item, folder, number)


def _is_text(item: object) -> bool:
    """Whether it is a text or a flag, nothing but these, however nested, or an object that is no image's."""
    if isinstance(item, dict):
        return not {"bytes", "path"} & item.keys()
    return isinstance(item, str | bool) or (isinstance(item, list | tuple) and all(map(_is_text, item)))


def _attention(artifact: Artifact) -> dict[str, Any]:
    """What `export-onnx` noted of the attention of a model that was made from its graph."""
    steps = [step.get("notes", {}) for step in artifact.lineage if step.get("pass") == "export-onnx"]
    names = ("attention", "attention_note")
    return {name: str(step[name]) for step in steps[-1:] for name in names if name in step}


def outcomes_text(outcomes: np.ndarray | None) -> str:
    """Right or wrong as a 1 or a 0 per example; "" for anything else, such as a share of a token overlap."""
    if outcomes is None or not np.isin(outcomes, (0, 1)).all():
        return ""
    return "".join("1" if right else "0" for right in outcomes)
