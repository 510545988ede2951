"""Which data a checkpoint was trained on, as `finetune` noted it, and whether it is still the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.errors import DataError, OptkitError
from optkit.tasks.base import Columns

#: Splits whose contents decide whether the data is still the same.
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Origin:
    """`name` is the data to use, None where there is none or it has changed; `said` tells the user which."""

    name: str | None
    said: str
    columns: Columns = field(default_factory=Columns)


def record(data: Data, columns: Columns) -> dict[str, Any]:
    """What `finetune` notes of its data, for `origin`: where it lies, its columns, and what it held."""
    return {
        "name": str(Path(data.name).resolve()) if data.is_local else data.name,
        "columns": {k: v for k, v in vars(columns).items() if v is not None},
        "sha256": {split: data.fingerprint(split) for split in SPLITS},
    }


def origin(checkpoint: Artifact) -> Origin:
    """The data that the manifest of `checkpoint` names, where it is there and its contents are the same.

    A manifest may be a stranger's: what it names is only read, and used only where the contents match.
    """
    noted = next((n for step in reversed(checkpoint.lineage) if (n := _noted(step))), None)
    if noted is None:
        return Origin(None, "the checkpoint does not say which data it was trained on")
    name, told = noted["name"], noted["sha256"]
    data = Data(name)
    try:
        if Path(name).is_absolute() and not data.is_local:
            return Origin(None, f"{name}, on which the checkpoint was trained, is gone")
        now = {split: data.fingerprint(split) for split in SPLITS}
    except (OptkitError, OSError) as reason:
        return Origin(None, f"{name}, on which the checkpoint was trained, cannot be read: {reason}")
    if now != told:
        changed = ", ".join(split for split in SPLITS if now.get(split) != told.get(split))
        return Origin(None, f"{name}, on which the checkpoint was trained, has changed ({changed})")
    return Origin(name, f"data: {name}, on which the checkpoint was trained", Columns(**noted["columns"]))


def required(checkpoint: Artifact, what: str) -> Origin:
    """`origin`, for what can not do without. Raises DataError."""
    known = origin(checkpoint)
    if known.name is None:
        raise DataError(
            f"{what} needs data with labels: {known.said}.",
            hint="Give --data: a folder with train and validation files, one file, or a hub data set; or "
            "texts without labels, on which the teacher answers: --unlabelled FILE.",
        )
    return known


def _noted(step: Any) -> dict[str, Any] | None:
    """What `record` left in a step of the lineage; None for anything else."""
    notes = step.get("notes") if isinstance(step, dict) and step.get("pass") == "finetune" else None
    noted = notes.get("data") if isinstance(notes, dict) else None
    if not isinstance(noted, dict) or not isinstance(noted.get("name"), str):
        return None
    columns, told = noted.get("columns"), noted.get("sha256")
    if not isinstance(columns, dict) or not set(columns) <= {"text", "pair", "label"}:
        return None
    plain = isinstance(told, dict) and all(isinstance(x, str) for x in (*columns.values(), *told.values()))
    return noted if plain else None
