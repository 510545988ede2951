"""Inputs without labels in place of data: a part to take ranges from, the rest to compare answers on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from optkit.benchmarking.unlabelled_texts import read as read_inputs
from optkit.core.files import digest
from optkit.core.quantities import COUNT
from optkit.core.reading import Json
from optkit.data import built_in
from optkit.data.examples import EncodedSet
from optkit.errors import DataError
from optkit.models.text import NoToken
from optkit.tasks.base import BETWEEN, Columns, Labelled, Task
from optkit.tasks.labelled import Input

#: What the report says in its first line: whose answers the others are compared with, and on what.
MEASURED = "fidelity was measured, accuracy was not: answers are compared with {} on {}"
OWN = "the user's own model"
#: Of the user's texts, at most so many are calibrated on, and at most a third.
CALIBRATION = 300


@dataclass(frozen=True)
class Unlabelled:
    """In the place of `optkit.data.dataset.Data`: `name` says what it is; no text is in both parts.

    `columns` are those that were read, where it is a table.
    """

    name: str
    calibration: list[Input]
    measured: list[Input]
    columns: Columns = field(default_factory=Columns)

    splits = ("train", "validation")

    def is_held_out(self, split: str) -> bool:
        return False

    def fingerprint(self, split: str) -> str:
        part = self.calibration if split == "train" else self.measured
        return digest([_plain(x) for x in part])

    def labelled(self, task: Task) -> Labelled:
        """The part to compare on; no reference is known. Inputs in which there is nothing to answer go."""
        encoded = task.encode(self.measured)
        sources = [_shown(x, i) for i, x in enumerate(self.measured)]
        return Labelled(encoded, [None] * len(self.measured), sources, self.measured, columns=self.columns)

    def ranges(self, task: Task) -> EncodedSet:
        """The part to calibrate on, encoded."""
        return task.encode(self.calibration)


def built_in_for(task: Task, limit: int | None = None) -> Unlabelled:
    """Built-in inputs of the kind that `task` takes, but for texts of which its tokenizer makes no token."""
    probes = task.probes(built_in.measured())
    measured = with_tokens(task, probes)
    kinds = {"images": "pictures", "audio": "sounds"}
    what = f"built-in {next((kinds[need] for need in task.needs if need in kinds), 'texts')}"
    if absent := len(probes) - len(measured):
        what += f" (but {absent} of which its tokenizer makes no token)"
    calibration = with_tokens(task, task.probes(built_in.calibration()))
    return Unlabelled(what, _even(calibration), _even(_drawn(measured, limit)))


def with_tokens(task: Task, probes: list[Input]) -> list[Input]:
    """The built-in inputs `probes` of `task`, but for those of which its tokenizer makes no token."""

    def has_tokens(inputs: list[Input]) -> bool:
        try:
            task.encode(inputs)
        except NoToken:
            return False
        return True

    if {"images", "audio"} & {*task.needs} or has_tokens(probes):
        return probes
    return [x for x in probes if has_tokens([x])]


def read(file: str, task: Task, columns: Columns, limit: int | None = None) -> Unlabelled:
    """The inputs in `file` (.txt, JSONL, CSV, TSV, Parquet); a third of them to calibrate on, 300 at most.

    Raises DataError where it holds fewer than three.
    """
    texts, columns = read_inputs(file, task, columns)
    inputs = list({repr(x): x for x in texts}.values())
    if len(inputs) < 3:
        raise DataError(
            f"Expected at least three different texts in {file!r}, received {len(inputs)}.",
            hint="Some hundred texts of your own tell whether answers stay; 300 can show 98.8% agreement.",
        )
    order = np.random.default_rng(0).permutation(len(inputs))
    cut = min(CALIBRATION, len(inputs) // 3)
    calibration = [inputs[i] for i in sorted(order[:cut])]
    measured = [inputs[i] for i in sorted(order[cut:])]
    return Unlabelled(file, calibration, _even(_drawn(measured, limit)), columns)


def unlike_others(data: Unlabelled) -> str:
    """The doubt that such inputs leave."""
    return (
        f"Accuracy was not measured, so no limit on the score was asked. {data.name} need not be like what "
        "will come: agreement and times on the data's own lengths hold for texts like these."
    )


def _drawn(inputs: list[Input], limit: int | None) -> list[Input]:
    if limit is None or COUNT.check(limit, "limit") >= len(inputs):
        return inputs
    return [inputs[i] for i in sorted(np.random.default_rng(0).permutation(len(inputs))[:limit])]


def _even(inputs: Sequence[Input]) -> list[Input]:
    """An even number of them, where there are two: a task may take two answers for one pair."""
    return list(inputs[: len(inputs) // 2 * 2 or None])


def _plain(item: Input) -> Json:
    if isinstance(item, np.ndarray):
        return [list(item.shape), item.tobytes().hex()]
    return item if isinstance(item, (str, int)) else repr(item)


def _shown(item: Input, position: int) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, (tuple, list)) and not any(isinstance(x, np.ndarray) for x in item):
        return (BETWEEN if isinstance(item, tuple) else " ").join(map(str, item))
    return f"input {position}"
