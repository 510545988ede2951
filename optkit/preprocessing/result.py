"""Whether a folder already holds what a command would write: by a key and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optkit.core.files import read_json, sha256
from optkit.core.schema.base import check
from optkit.core.schema.notes import Prepared

REPORT = "preprocessing.json"


def checksums(folder: Path) -> dict[str, str]:
    """Name → sha256 of the files that hold rows or labels."""
    return {f.name: sha256(f) for f in sorted(folder.glob("*.json*")) if f.name != REPORT}


def up_to_date(folder: Path, key: str) -> dict[str, Any] | None:
    """The report in `folder`, where it was written with `key` and no file has changed since; else None."""
    try:
        report = read_json(folder / REPORT, ValueError)
        known = check(Prepared, report, folder / REPORT, ValueError)
        same = known.key == key and known.files == checksums(folder)
    except (OSError, ValueError):
        return None
    return report if same else None
