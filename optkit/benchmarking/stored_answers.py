"""Stored answers: what an artifact gave for a few inputs on the machine where it was proven.

Another CPU has other kernels, and a model in low precision may answer otherwise there: 8-bit products
saturate without VNNI, and OpenVINO has computed wrong bf16 products on some (openvinotoolkit/openvino#38256).
So an artifact that is opened on another machine answers those inputs again first.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking.environment import describe
from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.files import read_json, sha256, write_json, write_text
from optkit.core.reading import Json, parse_json, read_text
from optkit.core.schema.base import check
from optkit.core.schema.stored_answers import FILE, MOST_VALUES, SCHEMA, Machine, StoredAnswers
from optkit.data.examples import characters
from optkit.errors import CheckpointError, DataError, OptkitError, PassError
from optkit.runtimes.base import Session, Setting, infer_all, open_session
from optkit.runtimes.cuda.probe import probe as probe_gpu
from optkit.runtimes.seq2seq import NONE, SEQUENCES, Seq2SeqSession
from optkit.runtimes.settings import chosen_runtime, runtime_settings
from optkit.tasks.base import Task, open_task
from optkit.tasks.labelled import Answer, Input

#: Largest difference to a stored answer, as a share of the largest number of that output, by what the model
#: computes in. Source: benchmarks/other_cpu.py: INT8 moves by at most .007 where products do not saturate,
#: and by .04 to .09 where they do.
TOLERANCES = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.05}
LOW_PRECISION = 0.02
#: Bytes of the file, and tokens that its inputs may have together: what a check may cost at most.
MOST_BYTES, MOST_TOKENS = 2**18, 4096
#: Tokens of the longest input; fewer for a large model, so that a check takes less than a second.
LONGEST, SHORTEST, WORK = 512, 32, 10**11
_WORDS = {"f32": "fp32", "f16": "fp16"}


@dataclass(frozen=True)
class Check:
    """`differences`, one for each stored input, as shares of the largest number; `allowed` is the most."""

    machine: Machine
    differences: tuple[float, ...]
    allowed: float

    @property
    def worst(self) -> float:
        return max(self.differences)

    @property
    def equal(self) -> bool:
        return self.worst <= self.allowed


def store(folder: Path, **options: Setting) -> None:
    """Write the answers of the artifact in `folder`, opened in a process of its own.

    Of `options` the runtime is given those that it has.
    """
    from optkit.core.process import Child

    with Child("optkit.benchmarking.stored_answers", threads=options.get("threads")) as child:
        child.call("write", folder=str(folder), options=options)


def open_checked(
    artifact: Artifact, task: Task, runtime: str | None = None, always: bool = False, **options: Setting
) -> tuple[Session, Check | None]:
    """`open_session`, and whether the model answers here as it did where it was proven.

    That is asked on another machine than it was proven on, or `always`; None: nothing was asked, or the
    artifact has no stored answers. Where answers differ and the runtime can compute in f32, it does, and a
    line says so. Raises CheckpointError where they differ all the same, and what `open_session` raises.
    """
    stored = read(artifact)
    session = open_session(artifact, runtime, **options)
    try:
        name = chosen_runtime(artifact, runtime)
        if stored is None:
            return session, None
        machine = machine_of(session, name)
        if machine == stored.machine and not always:
            return session, None
        checked = compare(session, artifact, task, stored, machine)
        if checked.equal:
            return session, checked
        if "precision" in runtime_settings(name) and (machine.precision or "f32") != "f32":
            session.close()
            options = {**options, "precision": "f32"}
            session = open_session(artifact, runtime, **options)
            machine = machine_of(session, name)
            again = compare(session, artifact, task, stored, machine)
            if again.equal:
                logging.getLogger("optkit").warning(
                    "%s computes in f32 on this machine (%s): in %s its answers differ by %.2g%%",
                    *(artifact.path, machine.device, checked.machine.precision, 100 * checked.worst),
                )
                return session, again
        raise _differs(artifact, stored, checked)
    except BaseException:
        session.close()
        raise


def ask(artifact: Artifact) -> tuple[StoredAnswers, Check]:
    """What is stored, and whether the model answers so here.

    Raises CheckpointError as `open_checked` does, and where nothing is stored.
    """
    stored = read(artifact)
    if stored is None:
        raise CheckpointError(
            f"{str(artifact.path)!r} has no stored answers to compare with.",
            hint="optkit compress stores them with what it makes: make the artifact again.",
        )
    session, checked = open_checked(artifact, open_task(artifact), always=True)
    session.close()
    assert checked is not None
    return stored, checked


def told(machine: Machine) -> str:
    """A machine in a line."""
    precision = f" in {machine.precision}" if machine.precision else ""
    return f"{machine.device}, {machine.runtime} {machine.version}{precision}"


def read(artifact: Artifact) -> StoredAnswers | None:
    """The stored answers of `artifact`; None where it has none. Raises CheckpointError."""
    if FILE not in artifact.manifest["files"]:
        return None
    file = artifact.path / FILE
    text = read_text(file, CheckpointError, MOST_BYTES)
    return check(StoredAnswers, parse_json(text, str(file), CheckpointError), file, CheckpointError)


def machine_of(session: Session, runtime: str) -> Machine:
    """What computes the answers of `session`."""
    machine = describe()
    try:
        version = metadata.version(runtime)
    except metadata.PackageNotFoundError:
        version = ""
    device = machine["cpu"] if session.device == "cpu" else probe_gpu().name
    facts = {"device": device, "isa": machine["isa"], "runtime": runtime, "version": version}
    return check(Machine, {**facts, "precision": session.precision}, runtime, CheckpointError)


def compare(
    session: Session, artifact: Artifact, task: Task, stored: StoredAnswers, machine: Machine
) -> Check:
    """Answer the stored inputs with `session`. Raises CheckpointError where they do not fit the model."""
    try:
        inputs = [task.from_json(example.input) for example in stored.examples]
        now = answer(session, task, inputs)
    except DataError as error:
        raise CheckpointError(f"{FILE} in {str(artifact.path)!r} does not fit the model: {error}") from error
    names = stored.examples[0].outputs.keys()
    largest = {n: max(max(map(abs, x.outputs[n].values)) for x in stored.examples) for n in names}
    differences = []
    for example, outputs in zip(stored.examples, now):
        worst = 0.0
        for name, expected in example.outputs.items():
            shape, values = outputs.get(name, ([], []))
            if shape != expected.shape or len(values) != len(expected.values):
                raise CheckpointError(
                    f"Expected {name} of shape {expected.shape} for an input in {FILE} of "
                    f"{str(artifact.path)!r}, received {shape if name in outputs else 'no such output'}.",
                    hint="Make the artifact again; its stored answers are another model's.",
                )
            apart = np.abs(np.subtract(values, expected.values)).max()
            share = float(apart) / max(largest[name], 1e-6)
            worst = max(worst, share if math.isfinite(share) else math.inf)
        differences.append(worst)
    precisions = (artifact.precision, stored.machine.precision or "f32", machine.precision or "f32")
    return Check(machine, tuple(differences), max(map(allowed, precisions)))


def allowed(precision: str) -> float:
    """The largest difference that another machine explains, for a model in `precision`."""
    return TOLERANCES.get(_WORDS.get(precision, precision), LOW_PRECISION)


def answer(
    session: Session, task: Task, inputs: Sequence[Input]
) -> list[dict[str, tuple[list[int], list[float]]]]:
    """Each input alone: output → its shape, and its values at evenly spaced places. Raises DataError."""
    encoded = task.encode(inputs)
    if encoded.ragged and encoded.tokens.sum() > MOST_TOKENS:
        raise DataError(f"Expected inputs of at most {MOST_TOKENS} tokens together.")
    outputs = infer_all(session, encoded, batch_size=1, max_tokens=MOST_TOKENS)
    floats = {name: rows for name, rows in outputs.items() if np.asarray(rows[0]).dtype.kind == "f"}
    if isinstance(session, Seq2SeqSession):
        written = outputs[SEQUENCES]
        floats["next_token"] = [_behind(session, encoded.batch([i]), written[i]) for i in range(len(inputs))]
    elif task.generates and encoded.windows is not None:
        first = np.searchsorted(encoded.windows.owner, np.arange(len(inputs)))
        floats["next_token"] = [_continued(session, encoded.arrays["input_ids"][i]) for i in first]
    return [{name: _sampled(rows[i]) for name, rows in floats.items()} for i in range(len(inputs))]


def _continued(session: Session, tokens: np.ndarray) -> np.ndarray:
    """The logits behind the last of `tokens`, which a language model reads as it writes: with its cache."""
    decoder, logits = session.decoder(), np.empty(0)
    cuts = sorted({0, max(len(tokens) - 2, 0), max(len(tokens) - 1, 0), len(tokens)})
    for start, end in pairwise(cuts):
        logits = decoder.step(tokens[None, start:end], np.ones((1, end), dtype=np.int64))[0]
    return logits


def _behind(session: Seq2SeqSession, feeds: dict[str, np.ndarray], written: np.ndarray) -> np.ndarray:
    """The logits behind the first tokens of the text `written` for a source, given one by one."""
    writer, tokens = session.writer(feeds), [session.settings.start, *written[written != NONE][:4]]
    return [writer.step(np.array([[token]]))[0] for token in tokens][-1]


def _sampled(value: np.ndarray) -> tuple[list[int], list[float]]:
    flat = np.ravel(value).astype(np.float64)
    places = np.unique(np.linspace(0, max(flat.size - 1, 0), min(flat.size, MOST_VALUES)).astype(np.int64))
    return list(np.shape(value)), flat[places].tolist()


def inputs_for(task: Task, size_bytes: int) -> list[Json]:
    """A short, a medium and a long built-in input of the kind that `task` takes, as JSON values."""
    from optkit.benchmarking.unlabelled import with_tokens
    from optkit.data import built_in

    most = max(SHORTEST, min(LONGEST, WORK // max(size_bytes, 1)))
    probes = with_tokens(task, task.probes(built_in.measured()[::4]))
    candidates = [task.to_json(x) for x in sorted(probes, key=_length)]
    fitting = [x for x in candidates if _tokens(task, x) <= most] or candidates[:1]
    return [fitting[0], fitting[len(fitting) // 2], fitting[-1]]


def _length(item: Input) -> int:
    if isinstance(item, bytes):
        return len(item)
    return item.size if isinstance(item, np.ndarray) else characters(item)


def _tokens(task: Task, value: Answer) -> int:
    encoded = task.encode([task.from_json(value)])
    return int(encoded.tokens.sum()) if encoded.ragged else 0


def _differs(artifact: Artifact, stored: StoredAnswers, checked: Check) -> CheckpointError:
    return CheckpointError(
        f"{str(artifact.path)!r} does not answer here as it did where it was proven: a stored answer differs "
        f"by {100 * checked.worst:.2g}% of the largest number (at most {100 * checked.allowed:g}%). Here: "
        f"{told(checked.machine)}. There: {told(stored.machine)}.",
        hint="Run optkit compress on this machine, or serve it on one like that.",
    )


class Writer:
    """The process that `store` starts."""

    def write(self, folder: str, options: dict[str, Any]) -> None:
        """Write the file, and list it in the manifest. Raises PassError where an answer is not finite."""
        artifact = Artifact.open(folder)
        task = open_task(artifact)
        name = chosen_runtime(artifact)
        options = {key: value for key, value in options.items() if key in runtime_settings(name)}
        inputs = inputs_for(task, artifact.size_bytes)
        with open_session(artifact, **options) as session:
            answers = answer(session, task, [task.from_json(x) for x in inputs])
            machine = machine_of(session, name)
        examples = [
            {
                "input": item,
                "outputs": {
                    n: {"shape": s, "values": [_short(v) for v in vs]} for n, (s, vs) in outputs.items()
                },
            }
            for item, outputs in zip(inputs, answers)
        ]
        value = {"schema": SCHEMA, "machine": machine.model_dump(), "examples": examples}
        check(StoredAnswers, value, FILE, PassError)
        write_text(artifact.path / FILE, json.dumps(value, ensure_ascii=False))
        manifest = read_json(artifact.path / MANIFEST, OptkitError)
        manifest["files"][FILE] = sha256(artifact.path / FILE)
        write_json(artifact.path / MANIFEST, manifest)


def _short(value: float) -> float:
    """Six digits: what float32 holds, and no more bytes than that."""
    return float(f"{value:.6g}")


def serve() -> Writer:
    return Writer()
