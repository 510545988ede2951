"""Ours against transformers', input by input: equal, or an error that shows the first difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Reference
from optkit.benchmarking.reference.files import FileReference
from optkit.errors import CheckpointError, DataError, PassError
from optkit.tasks.base import Task

if TYPE_CHECKING:
    from optkit.tasks.labelled import Input

#: How far outputs may lie apart, as a share of the largest, at least of 1: other batches round otherwise.
OUTPUTS = 2e-4
#: Examples with different outputs that are asked again, alone.
ASKED = 3


def provoked(theirs: Reference, task: Task) -> None:
    """Compare what the model is fed for provoking inputs of the task. Raises CheckpointError."""
    if isinstance(theirs, FileReference):
        with TemporaryDirectory(prefix="optkit-files-") as folder:
            _provoked_files(theirs, task, Path(folder))
        return
    for inputs in task.provoking():
        readable = [x for x in inputs if _taken(task, x)]
        if readable:
            # A language model cuts texts for its metric alone.
            whole = task.generates and not task.has_encoder
            ours = {"input_ids": task.encoder.whole(readable)} if whole else task.encode(readable).arrays
            rows(theirs.provoked(readable), ours, readable, theirs)


def rows(
    fed: Sequence[Any], arrays: Mapping[str, Sequence[Any]], inputs: Sequence[Input], theirs: Reference
) -> None:
    """CheckpointError with the first of `fed`, what transformers feeds, that is not in our `arrays`."""
    if isinstance(theirs, FileReference):
        for i, (features, received) in enumerate(zip(fed, arrays[theirs.feature])):
            what = str(inputs[i]) if len(fed) == len(inputs) else f"window {i}"
            _same_features(features, received, what, theirs)
        return
    ours = arrays["input_ids"]
    owner = list(getattr(theirs, "owner", ())) if len(fed) != len(inputs) else list(range(len(fed)))
    for i in range(max(len(fed), len(ours))):
        row = fed[i] if i < len(fed) else {}
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            received = list(map(int, arrays[name][i])) if i < len(ours) and name in arrays else None
            expected = row.get("input_ids")
            if name != "input_ids" and expected is not None:  # what a model is not given, it takes to be
                expected = row.get(name, [int(name == "attention_mask")] * len(expected))
            if received is None and name != "input_ids" and i < len(ours):
                continue
            if received != expected:
                raise CheckpointError(
                    f"optkit reads {_shown(inputs, owner, i)} otherwise than transformers: {name} "
                    f"{_near(received, expected)}.",
                    hint="Report it with the tokenizer; until then serve this checkpoint with transformers.",
                )


def answers(theirs: Reference, task: Task, outputs: Outputs, inputs: Sequence[Input]) -> None:
    """PassError where our task makes other answers of transformers' outputs than its own rules do."""
    expected = theirs.answers(outputs, inputs)
    if expected is None:
        return
    for i, (received, right) in enumerate(zip(task.answers(outputs), expected)):
        received = received.tolist() if isinstance(received, np.ndarray | np.generic) else received
        received = list(received) if isinstance(received, tuple) else received
        same = received == right
        if not same and isinstance(right, float | list) and not isinstance(received, str):
            try:
                same = bool(np.allclose(received, right, rtol=1e-9, atol=1e-9))
            except (TypeError, ValueError):
                same = False
        if not same:
            raise PassError(
                f"Expected the answer {repr(right)[:300]} to {str(inputs[i])[:100]!r}, as transformers gives "
                f"it, received {repr(received)[:300]} from optkit's reading of the same outputs.",
                hint="Report it: the outputs are the same, so that one of the two reads them wrongly.",
            )


def again(theirs: Reference, inputs: Sequence[Input]) -> Callable[[int], list[Outputs]]:
    """A function that asks transformers for the outputs of one example twice, alone and unpadded."""

    def ask(example: int) -> list[Outputs]:
        one = [inputs[example]]
        return [theirs.outputs(theirs.rows(one), one, alone=True) for _ in range(2)]

    return ask


def outputs(
    theirs: Mapping[str, Sequence[np.ndarray]],
    ours: Mapping[str, Sequence[np.ndarray]],
    ask: Callable[[int], list[Outputs]],
) -> list[str]:
    """Doubts about examples that transformers itself answers differently alone and in a batch.

    Raises PassError with the first example whose outputs are ours alone.
    """
    names = [n for n in theirs if n in ours]
    apart = [i for i in range(len(theirs[names[0]])) if any(_apart(theirs[n][i], ours[n][i]) for n in names)]
    random = batched = 0
    for i in apart[:ASKED]:
        first, second = ask(i)
        name = next(n for n in names if _apart(theirs[n][i], ours[n][i]))
        if _apart(first[name][0], second[name][0]):
            random += 1
        elif not _apart(first[name][0], ours[name][i]):
            batched += 1
        else:
            raise PassError(
                f"optkit's torch session answers example {i} otherwise than transformers: {name} "
                f"{_numbers(ours[name][i])}, expected {_numbers(theirs[name][i])}.",
                hint="Report it with the architecture: nothing that is measured here would hold.",
            )
    doubts = []
    if random:
        doubts.append(
            "transformers answers the same input differently each time: the model itself draws at random."
        )
    if batched:
        doubts.append(
            f"transformers' own answers depend on what an example is padded with: {len(apart)} of "
            f"{len(theirs[names[0]])} differ from those of the same example alone, which are optkit's."
        )
    return doubts


def _apart(a: np.ndarray, b: np.ndarray) -> bool:
    if np.shape(a) != np.shape(b):
        return True
    if not np.size(a) or not np.issubdtype(np.asarray(a).dtype, np.floating):
        return not np.array_equal(a, b)
    return bool(np.abs(a - b).max() > OUTPUTS * max(1.0, float(np.abs(a).max())))


def _taken(task: Task, item: Input) -> bool:
    """Whether our reading takes this input at all: a refusal is no silent difference."""
    try:
        return len(task.encode([item])) > 0
    except DataError:
        return False


def _provoked_files(theirs: FileReference, task: Task, folder: Path) -> None:
    for number, (what, content) in enumerate(theirs.provoking()):
        file = folder / f"{number}.file"
        file.write_bytes(content)
        try:
            ours = task.encode([str(file)]).arrays[theirs.feature][0]
        except DataError:
            continue
        try:
            features = theirs.features(str(file))
        except Exception:  # transformers takes fewer files than we do
            continue
        _same_features(features, ours, f"a provoking file ({what})", theirs)


def _same_features(features: np.ndarray, ours: np.ndarray, what: str, theirs: FileReference) -> None:
    same_shape = features.shape == ours.shape
    if not same_shape or float(np.abs(features - ours).max(initial=0.0)) > theirs.allowed:
        distance = f", up to {np.abs(features - ours).max():.3g} apart" if same_shape else ""
        raise CheckpointError(
            f"optkit makes other {theirs.feature} of {what} than transformers' "
            f"{type(theirs.processor).__name__}: {ours.shape}, {features.shape}{distance}; "
            f"allowed is {theirs.allowed:.2g}.",
            hint="Report it with preprocessor_config.json; until then serve it with transformers.",
        )


def _shown(inputs: Sequence[Input], owner: Sequence[int], row: int) -> str:
    example = owner[row] if row < len(owner) else None
    return "an input" if example is None else f"{str(inputs[example])[:120]!r}"


def _near(ours: list[int] | None, expected: list[int] | None) -> str:
    """Both from a little before where they part."""
    if ours is None or expected is None:
        return "of a window that " + (
            "only transformers cuts" if ours is None else "transformers does not cut"
        )
    first = next((i for i, (a, b) in enumerate(zip(ours, expected)) if a != b), min(len(ours), len(expected)))
    start = max(0, first - 3)
    return (
        f"{ours[start : first + 8]}, expected {expected[start : first + 8]} from token {start} "
        f"({len(ours)} and {len(expected)} tokens)"
    )


def _numbers(values: np.ndarray) -> str:
    flat = np.asarray(values).reshape(-1)[:6]
    return "[" + ", ".join(f"{x:.5g}" for x in flat) + "]" + f" of shape {np.shape(values)}"
