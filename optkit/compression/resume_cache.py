"""Names in a work folder: each hashes all that its content depends on.

The same command run again therefore finds what an interrupted one left, and a changed one does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.core.files import digest
from optkit.passes.base import Pass


def spec(step: Pass) -> dict[str, Any]:
    """`step` as a name hashes it: its own and every parameter."""
    return {"pass": step.name(), **step.parameters()}


def key_after(key: str, *chain: Pass, told: Any = None) -> str:
    """The key of what `chain` makes from what `key` names.

    It follows the contents of what a pass reads beside its source (`Pass.reads`); `told` stands for the
    data, which passes that need it are told of.
    """
    for step in chain:
        shown = [told] if step.needs_data and told is not None else []
        beside = step.reads()
        key = digest(key, spec(step), *shown, *([beside] if beside else []))
    return key


def step_folder(work: Path, step: Pass, key: str) -> Path:
    """Where the artifact with the key `key`, which `step` made last, lies."""
    return work / f"{step.name()}-{key}"


def peak_file(folder: Path) -> Path:
    """Where the peak memory of the pass that made `folder` is noted, for a run that resumes."""
    return folder.with_name(f"{folder.name}.peak.json")
