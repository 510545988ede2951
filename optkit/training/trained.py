"""`Trained`: what training a checkpoint led to."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from optkit.core.artifact import Artifact

#: A process that trains may be silent for so long, in seconds.
LONGEST_S = 7 * 86400.0


@dataclass(frozen=True)
class Epoch:
    """The `score` on validation after `epoch` epochs, and the student's `distance` to the teacher, if any."""

    epoch: float
    score: float
    distance: float | None = None


@dataclass(frozen=True)
class Trained:
    """The checkpoint in the folder `path`: `score` by `metric` on validation (NaN: another process knows it).

    `history` are the scores on the way, `classes` those of each label or kind of example, where the task has
    such: its name as `label`, then numbers. `score_before` is the student's before distillation.
    """

    path: Path
    metric: str = ""
    score: float = nan
    history: tuple[Epoch, ...] = ()
    classes: tuple[dict[str, Any], ...] = ()
    score_before: float | None = None

    @classmethod
    def read(cls, path: str | Path) -> Trained:
        """From the notes of the last step of the checkpoint at `path`."""
        notes = Artifact.open(path).lineage[-1]["notes"]
        return cls(
            Path(path),
            notes["metric"],
            notes["score"],
            tuple(Epoch(x["epoch"], x["score"], x.get("distance")) for x in notes["history"]),
            tuple(notes.get("table", ())),
            notes.get("score_before"),
        )
