"""Try one architecture in one task: optkit against plain transformers, in torch, in ONNX, and in INT8.

The outcome is exactly one of: right, refused with words before any work, or wrong.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch
from optkit.passes import PASSES
from optkit.passes.base import Pass, PassContext, apply
from optkit.passes.context import make_context
from optkit.passes.taken import refuse_encoder_decoder
from optkit.runtimes.base import Session, infer_all, open_session
from optkit.tasks.base import Labelled, Task, open_task
from tests import seq2seq
from tests.models.build import build
from tests.models.families import (
    DETECT,
    LM,
    MULTI,
    QA,
    SEGMENT,
    SOUND,
    SPARSE,
    SPEECH,
    TO_TEXT,
    VECTOR,
    ZERO,
    Family,
)
from tests.models.reference import IMAGES, NEW_TOKENS, Reference, inputs_for
from tests.models.several import OUTPUTS

#: The largest difference of two fp32 engines, as a share of the answers' range.
TOLERANCE = 1e-4
#: INT8 is other arithmetic: what is asked of it here is that it follows the same answers.
CORRELATION = 0.9


#: Task → the pass that "quantize" stands for; "quantize-dynamic" for all others.
_INT8 = defaultdict(
    lambda: "quantize-dynamic", {LM: "quantize-weights", **dict.fromkeys(IMAGES, "quantize-static")}
)
#: Settings with which the passes that change a checkpoint are quick.
_SMALL: dict[str, dict[str, Any]] = {
    "prune": {"share": 0.3, "ffn_multiple": 1, "samples": 32, "max_length": 32},
    "prune-width": {"multiple": 4, "samples": 32, "max_length": 32},
    "distill": {"epochs": 0.5, "batch": 16},
}


class Wrong(AssertionError):
    """An answer differs from transformers' own, or an error is none of optkit's."""


def sweep(
    family: Family, task: str, folder: Path, int8: Sequence[str] = (), passes: Sequence[str] = ()
) -> dict[str, Any]:
    """Build, load, compare, export, compare, quantize by `int8`, try `passes`, which change the checkpoint.

    `int8` holds "quantize" (for ONNX Runtime, as the task has it) and "open-vino-int8".

    Returns what the table says of it; "wrong" is among it where an answer or an error is not as it should be.
    """
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    noise = io.StringIO()
    try:
        with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise):
            row: dict[str, Any] = {"family": family.name, "model_type": family.kind, "task": task}
            with _wrong(row):
                if task == TO_TEXT:
                    _sweep_texts(row, family, folder)
                else:
                    _sweep(row, family, task, folder, int8, passes)
            return row
    finally:
        logging.disable(logging.NOTSET)
        warnings.resetwarnings()


@contextlib.contextmanager
def _wrong(row: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except Wrong as reason:
        row["wrong"] = "; ".join(filter(None, (row.get("wrong"), str(reason))))


def _sweep(
    row: dict[str, Any], family: Family, task: str, folder: Path, int8: Sequence[str], passes: Sequence[str]
) -> None:
    source = build(family, task, folder / "checkpoint")
    opened = _refusal(row, "torch", lambda: _open(source, task))
    if opened is None:
        return
    artifact, kind = opened
    session = _refusal(row, "torch", lambda: open_session(artifact, "torch", task))
    if session is None:
        return
    with session:
        reference = Reference(source, task)
        of_files = task in (*IMAGES, SOUND, SPEECH)
        inputs = inputs_for(family, task, 0 if of_files else reference.special_tokens())
        try:
            compare = Comparison(reference, inputs)
        except Exception as reason:
            raise Wrong(f"transformers itself gives no answer: {type(reason).__name__}: {reason}") from reason
        row["padding"] = "counts" if compare.padding_counts else "does not count"
        compare.check("torch", kind, session)
    row["torch"] = "right"

    context = _context(kind, inputs, source)
    for name in passes:
        with _wrong(row):
            _change(row, name, artifact, folder / name, context, compare)
    exported = _pass(row, "export-onnx", artifact, folder / "onnx", context)
    if exported is None:
        return
    session = _refusal(row, "export-onnx", lambda: open_session(exported, task=task))
    if session is None:
        raise Wrong(f"the graph was exported, and is not opened: {row['export-onnx']}")
    with session:
        compare.check("onnx", kind, session)
    notes = exported.lineage[-1]["notes"]
    notes = notes.get("vision", notes)  # of two towers that of images
    row["export-onnx"] = f"right, {'no attention' if notes['attention'] == 'none' else notes['attention']}"
    if notes["attention"] == "plain":
        row["plain, since"] = notes["attention_note"].removeprefix("plain, since ").split("; ")[0]
    for name in int8:
        with _wrong(row):
            _int8(row, _INT8[task] if name == "quantize" else name, exported, folder, context, compare, kind)


def _sweep_texts(row: dict[str, Any], family: Family, folder: Path) -> None:
    """The texts that a model writes, greedily and with four beams, are those of `generate`."""
    opened = _refusal(
        row, "torch", lambda: _open(seq2seq.checkpoint(family.name, folder / "source"), TO_TEXT)
    )
    if opened is None:
        return
    artifact, kind = opened
    _writes(artifact, artifact.path, "torch")
    row["torch"] = "right"
    exported = _pass(row, "export-onnx", artifact, folder / "onnx", make_context(kind))
    if exported is not None:
        _writes(exported, artifact.path, "onnx")
        row["export-onnx"] = f"right, {exported.lineage[-1]['notes']['attention']}"


def _writes(artifact: Artifact, source: Path, name: str) -> None:
    lengths = set[int]()
    with open_session(artifact, "torch" if name == "torch" else None, task=TO_TEXT) as session:
        for beams in (1, 4):
            try:
                lengths |= seq2seq.lengths_of_same_texts(session, source, beams)
            except AssertionError as reason:
                raise Wrong(f"{name}, {beams} beams: other texts than generate's: {reason}") from reason
    if len(lengths) < 2:
        raise Wrong(f"{name}: all texts have {lengths} tokens, which shows little")


def _change(
    row: dict[str, Any], name: str, source: Artifact, out: Path, context: PassContext, compare: Comparison
) -> None:
    """A pass that changes the checkpoint: what it makes loads, and answers in finite numbers."""
    made = _pass(row, name, source, out, context, _SMALL.get(name, {}))
    if made is None:
        return
    try:
        kind = open_task(made)
        opened = open_session(made, task=kind.name)
    except Exception as reason:
        raise Wrong(f"what {name} makes does not load: {_first_line(reason)}") from reason
    with opened as session:
        if name == "prune-vocabulary":  # all tokens of these inputs are still there
            compare.check(name, kind, session)
        compare.finite(name, kind, session)
    row[name] = "works"


def _context(kind: Task, inputs: list[Any], source: Path) -> PassContext:
    """Data of short inputs alone to validate on, as a user's may be, and all to calibrate on; no labels."""
    splits = {"validation": inputs[:1] * 2, "train": inputs * 16}
    in_pairs = kind.name in (VECTOR, SPARSE, MULTI)  # how near the vectors of two texts are is scored
    scored = {**splits, "validation": inputs[:4]} if in_pairs else splits

    def labelled(split: str) -> Labelled:
        some = scored[split][:: 2 if in_pairs else 1]
        tags = [_truth(kind.name, i, x) for i, x in enumerate(some)]
        return Labelled(kind.encode(scored[split]), tags)

    none = make_context(kind)
    return PassContext(
        kind,
        lambda split, limit: kind.encode(splits[split][:limit]),
        none.rows,
        labelled,
        origin=str(source),
    )


def _truth(task: str, number: int, item: Any) -> Any:
    """What a distilled model is scored against."""
    if task == DETECT:
        return np.array([[0, 1, 1, 20, 20, 0]], dtype=float)
    if task == SEGMENT:
        return np.full((item.height, item.width), number % 3, dtype=np.uint8)
    return [number % 3] * len(item["words"]) if isinstance(item, dict) else number % 3


def _int8(
    row: dict[str, Any],
    name: str,
    exported: Artifact,
    folder: Path,
    context: PassContext,
    compare: Comparison,
    kind: Task,
) -> None:
    try:
        made = _pass(row, name, exported, folder / name, context)
    except Wrong as reason:  # only the graph says that it has convolutions alone
        if "constant weights to quantize" not in str(reason):
            raise
        row[name] = f"refused: {str(reason).partition('work began: ')[2]}"
        return
    if made is not None:
        with open_session(made, task=kind.name) as session:
            row[name] = f"correlation {compare.correlation(name, kind, session):.3f}"


def _open(source: Path, task: str) -> tuple[Artifact, Task]:
    artifact = fetch(source)
    if task != ZERO and infer_task(artifact) != task:  # what a model of inference is for, the caller says
        raise Wrong(f"expected the task {task}, optkit takes it for {infer_task(artifact)}")
    return artifact, open_task(artifact, task)


def _pass(
    row: dict[str, Any], name: str, source: Artifact, out: Path, context: Any, settings: Any = None
) -> Artifact | None:
    step: Pass = PASSES[name](**(settings or {}))

    def check() -> bool:
        """As `compress` does before any work."""
        refuse_encoder_decoder(step, context.task)
        step.check(source, context.task)
        return True

    if _refusal(row, name, check) is None:
        return None
    try:
        return apply(step, source, out, context)
    except OptkitError as reason:
        raise Wrong(f"{name} is refused after work began: {_words(reason)}") from reason
    except Exception as reason:
        raise Wrong(f"{name} ends with {type(reason).__name__}: {_first_line(reason)}") from reason


def _refusal(row: dict[str, Any], name: str, action: Callable[[], Any]) -> Any:
    """What `action` gives; None where it is refused, and `row` then holds the words."""
    try:
        return action()
    except Wrong:
        raise
    except OptkitError as reason:
        row[name] = f"refused: {_words(reason)}"
        return None
    except Exception as reason:
        raise Wrong(f"{name} ends with {type(reason).__name__}: {_first_line(reason)}") from reason


def _words(reason: OptkitError) -> str:
    """The refusal, which is one line, and has a hint."""
    message = str(reason)
    if not reason.hint or "\n" in message.split(reason.hint)[0].strip():
        raise Wrong(f"a refusal of several lines, or without a hint: {message!r}")
    return re.sub(r"'/[^']*/([^'/]*)'", r"'\1'", message.replace(reason.hint, "").strip())


def _matched(queries: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`queries` in the order in which they are nearest to `others`: which is which means nothing, and some
    detectors choose the best, of which two may change places."""
    from scipy.optimize import linear_sum_assignment

    distances = np.abs(queries[:, None] - others[None]).sum(axis=-1)
    return queries[linear_sum_assignment(distances.T)[1]]


class Comparison:
    """The answers of `reference` to `inputs`, alone and in one padded batch, beside those of a session."""

    def __init__(self, reference: Reference, inputs: list[Any]) -> None:
        self.inputs, self.task = inputs, reference.task
        self.alone = reference.alone(inputs)
        self.together = reference.together(inputs)
        self.scale = max(float(np.abs(row).max()) for row in self.alone)
        self.written = reference.written(inputs[:4]) if self.task == LM else []
        self.padding_counts = not all(map(self._same, self.alone, self.together))

    def check(self, name: str, task: Task, session: Session) -> None:
        """Raise Wrong where an answer of `session` is not transformers' own."""
        alone, together = self._answers(task, session)
        for i, (ours, right) in enumerate(zip(alone, self.alone)):
            self._equal(f"{name}, input {i} alone", ours, right)
        for i, (ours, batched, single) in enumerate(zip(together, self.together, self.alone)):
            if not self._same(ours, single):  # where padding changes transformers' own answers
                self._equal(f"{name}, input {i} in a batch", ours, batched)
        if self.task == LM:
            given = task.complete(session, self.inputs[:4], 2, max_new_tokens=NEW_TOKENS)
            for i, (ours, right) in enumerate(zip(given, self.written)):
                if ours.text != right:
                    raise Wrong(f"{name}, prompt {i}: transformers writes {right!r}, optkit {ours.text!r}")

    def finite(self, name: str, task: Task, session: Session) -> None:
        alone, together = self._answers(task, session)
        if not all(np.isfinite(row).all() for row in (*alone, *together)):
            raise Wrong(f"{name} leaves a model that does not answer in finite numbers")

    def correlation(self, name: str, task: Task, session: Session) -> float:
        """Between the answers of `session`, alone and together, and transformers'; Wrong where it is low."""
        answers = [row for rows in self._answers(task, session) for row in rows]
        if self.task == DETECT:
            answers = [_matched(row, other) for row, other in zip(answers, (*self.alone, *self.alone))]
        ours = np.concatenate([row.ravel() for row in answers])
        right = np.concatenate([row.ravel() for rows in (self.alone, self.alone) for row in rows])
        if ours.shape != right.shape or not np.isfinite(ours).all():
            raise Wrong(f"{name} answers in another shape, or not in finite numbers")
        value = float(np.corrcoef(ours, right)[0, 1])
        if value < CORRELATION and not self.padding_counts:
            raise Wrong(f"{name} answers otherwise: correlation {value:.3f}")
        return value

    def _answers(self, task: Task, session: Session) -> tuple[list[np.ndarray], list[np.ndarray]]:
        each = [answer for one in self.inputs for answer in self._raw(task, session, [one])]
        return each, self._raw(task, session, self.inputs)

    def _raw(self, task: Task, session: Session, inputs: list[Any]) -> list[np.ndarray]:
        encoded = task.encode(inputs)
        try:
            return self._outputs(task, session, inputs, encoded)
        except Wrong:
            raise
        except Exception as reason:
            raise Wrong(f"no answer: {type(reason).__name__}: {_first_line(reason)}") from reason

    def _outputs(self, task: Task, session: Session, inputs: list[Any], encoded: Any) -> list[np.ndarray]:
        if self.task == LM:
            outputs = infer_all(session, encoded, len(inputs), 10**6)
            return [np.array([answer.log_likelihood]) for answer in task.decode(outputs)]
        if self.task in (DETECT, SEGMENT):
            outputs = infer_all(session, encoded, len(inputs), 10**6)
            names = ("logits", "pred_boxes") if self.task == DETECT else ("logits",)
            return [np.concatenate(rows, axis=-1) for rows in zip(*(outputs[name] for name in names))]
        if self.task in (SOUND, SPEECH):
            return infer_all(session, encoded, len(inputs), 10**6)["logits"]
        if self.task in OUTPUTS:
            return infer_all(session, encoded, len(encoded), 10**6)[OUTPUTS[self.task]]
        if len(encoded) != len(inputs):
            raise Wrong(f"{len(inputs)} inputs were cut into {len(encoded)} windows")
        outputs = session.infer(encoded.batch(np.arange(len(inputs))))
        if self.task == QA:
            values = np.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)
        else:
            values = outputs["sentence_embedding" if self.task == VECTOR else "logits"]
        if self.task in (QA, "token-classification"):
            return [row[:length] for row, length in zip(values, encoded.lengths)]
        return list(values)

    def _same(self, ours: np.ndarray, right: np.ndarray) -> bool:
        if ours.shape != right.shape:
            return False
        return bool(np.abs(ours - right).max() <= TOLERANCE * self.scale)  # False for NaN

    def _equal(self, place: str, ours: np.ndarray, right: np.ndarray) -> None:
        if ours.shape != right.shape:
            raise Wrong(f"{place}: transformers answers in the shape {right.shape}, optkit in {ours.shape}")
        if not self._same(ours, right):
            difference = float(np.abs(ours - right).max()) / self.scale
            raise Wrong(f"{place}: a difference of {difference:.2g} of the range to transformers")


def _first_line(reason: BaseException) -> str:
    return (str(reason).strip() or "no message").splitlines()[0][:200]
