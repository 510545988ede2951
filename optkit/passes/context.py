"""What a pass is handed: examples of the user's data, encoded for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from optkit.data.dataset import Data, drawn
from optkit.data.examples import EncodedSet
from optkit.errors import DataError
from optkit.passes.base import PassContext
from optkit.tasks.base import Columns, Task

if TYPE_CHECKING:
    import datasets


def make_context(
    task: Task,
    data: Data | None = None,
    columns: Columns | None = None,
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
    threads: int | None = None,
    trust_remote_code: bool = False,
    origin: str | None = None,
    calibration: EncodedSet | None = None,
) -> PassContext:
    """A context for `optkit.passes.base.apply`.

    `encoded(split, limit)` gives at most `limit` examples, drawn with a fixed seed over the whole split.
    Without data, `calibration` stands for the training split of passes that only take ranges from it.
    """

    def rows(split: str) -> datasets.Dataset:
        if data is None:
            raise DataError("This pass needs data with labels, received none.", hint="Give --data.")
        return data.split(split)

    def encoded(split: str, limit: int | None) -> EncodedSet:
        if data is None and split != "train":
            return task.encode(task.samples())
        if data is None and calibration is not None:
            order = np.random.default_rng(0).permutation(len(calibration))
            return calibration.take(np.sort(order[:limit]))
        whole, named = rows(split), columns or Columns()
        return task.read(drawn(whole, limit, task.together(whole, named)), named).encoded

    return PassContext(
        task=task,
        encoded=encoded,
        rows=rows,
        labelled=lambda split: task.read(rows(split), columns or Columns()),
        progress=progress,
        threads=threads,
        trust_remote_code=trust_remote_code,
        origin=origin,
        own_data=data is not None,
    )
