"""What may lie in a model folder: regular files and links within it, and beside a manifest what it lists."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

from optkit.core.files import belongs
from optkit.core.reading import MOST_BYTES, check_regular
from optkit.core.schema.model_files import checked, schema_of
from optkit.errors import CheckpointError

#: More files than any model has; a folder with more is none.
MOST_FILES = 10_000
#: Endings of files that nobody reads as part of a model, so that they need not be listed.
_UNREAD = (".md", ".html", ".png", ".sig", ".txt.asc")
#: How names begin of what goes with a model; the last is what TensorBoard reads.
_PLAIN = ("LICENSE", "NOTICE", "events.out.tfevents")


def check_folder(folder: Path, listed: Container[str] | None, unlisted: Container[str]) -> None:
    """Raise CheckpointError where something in `folder` is no file of it, or a settings file is malformed.

    `listed` are the names in its manifest (None: it has none); `unlisted` those of reports, which may lie
    there. What is neither is refused: it would be read, and nobody has vouched for it.
    """
    for name in names_in(folder, deep=listed is not None):
        file = folder / name
        try:
            if not belongs(file, folder):
                raise CheckpointError(
                    f"{name!r} in {str(folder)!r} points outside of its folder.",
                    hint="Put the file itself there: nothing is read but the folder that was given.",
                )
            most = MOST_BYTES if name.endswith(".json") else None  # before anybody takes its sum
            check_regular(file.stat(), file, CheckpointError, most)
        except (OSError, RuntimeError) as reason:  # a link that leads nowhere, or to itself
            said = getattr(reason, "strerror", None) or reason
            raise CheckpointError(f"Cannot read {name!r} in {str(folder)!r}: {said}.") from reason
        if listed is not None and name not in listed:
            last = name.rpartition("/")[2]
            if last not in unlisted and not last.endswith(_UNREAD) and not last.startswith(_PLAIN):
                raise CheckpointError(
                    f"{name!r} lies in {str(folder)!r} and is not in its manifest.",
                    hint="Take it away, or copy the folder again as it was written.",
                )
        elif schema_of(name) is not None:
            checked(file, name, CheckpointError)


def names_in(folder: Path, deep: bool) -> Iterator[str]:
    """The names of all but folders and hidden files; without `deep` only from where models have files."""
    count = 0
    for root, folders, files in os.walk(folder):
        below = Path(root).relative_to(folder)
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in links
            and (deep or (name[0].isdigit() and "_" in name))
        )
        for name in sorted([*files, *(links if deep else ())]):
            if name.startswith("."):
                continue
            count += 1
            if count > MOST_FILES:
                raise CheckpointError(
                    f"Expected a model in {str(folder)!r}, received over {MOST_FILES} files."
                )
            yield (below / name).as_posix()
