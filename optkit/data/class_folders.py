"""Folders of files, one subfolder per class, as rows of a path and a `label`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.files import sha256
from optkit.data.tables.splits import split_named
from optkit.errors import DataError

if TYPE_CHECKING:
    import datasets


def find(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """Split → its folder of class folders that hold files with one of `endings`; {} where there is none.

    A folder that holds the class folders itself is the split `all`. Raises DataError for a split that is
    there twice.
    """
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = split_named(path.name)
        if name and _holds_classes(path, endings):
            if name in splits:
                raise DataError(
                    f"Two folders hold the split {name!r}: {str(splits[name][0])!r}, {str(path)!r}."
                )
            splits[name] = [path]
    return splits or ({"all": [folder]} if _holds_classes(folder, endings) else {})


def read(folder: Path, endings: tuple[str, ...], column: str) -> datasets.Dataset:
    """The paths in the class folders of `folder`, as `column`, and the folders' names, as `label`.

    Raises DataError for files that lie beside or below them, which no class would take.
    """
    import datasets

    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    deeper = (p for c in classes for inner in c.iterdir() if inner.is_dir() for p in _files(inner, endings))
    if stray := next((p for p in (*_files(folder, endings), *deeper)), None):
        raise DataError(
            f"{str(stray)!r} would be left out: it lies in no folder of a class.",
            hint=f"Files of {column} lie in {str(folder)!r}/CLASS/.",
        )
    pairs = [(str(p), c.name) for c in classes for p in _files(c, endings)]
    return datasets.Dataset.from_dict({column: [p for p, _ in pairs], "label": [c for _, c in pairs]})


def fingerprint(folders: Sequence[Path], endings: tuple[str, ...]) -> str:
    """What stands for the contents of folders of files: every file's name and sha256."""
    files = [(f, p) for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in endings]
    lines = (f"{p.relative_to(f).as_posix()} {sha256(p)}\n" for f, p in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _holds_classes(folder: Path, endings: tuple[str, ...]) -> bool:
    return folder.is_dir() and any(
        p.is_dir() and not p.name.startswith(".") and any(_files(p, endings)) for p in folder.iterdir()
    )


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith("."))
