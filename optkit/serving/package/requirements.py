"""What a packaged artifact needs installed, pinned to what is installed here."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from optkit.core.artifact import Artifact
from optkit.core.schema.sentence_pieces import FILE as PIECES
from optkit.errors import OptkitError
from optkit.runtimes.settings import chosen_runtime, session_class
from optkit.tasks.base import open_task


def extras_of(artifact: Artifact) -> list[str]:
    """The extras that the artifact's runtime and task need; none for the base install."""
    runtime = session_class(chosen_runtime(artifact)).extra
    reader = ["sentencepiece"] if (artifact.path / PIECES).exists() else []
    return [*([runtime] if runtime else []), *open_task(artifact).needs, *reader]


def pinned(extras: set[str]) -> list[str]:
    """The requirements of optkit's base install and `extras`, each at the version installed here.

    One that is not installed here keeps its own bounds.
    """
    lines = []
    for text in metadata.requires("optkit") or []:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if extra and extra.group(1) not in extras:
            continue
        name = re.match(r"[\w.-]+", requirement.strip())
        if name is None or name.group(0) == "optkit":
            continue
        try:
            # A local part such as +cpu names a build that the index does not have.
            lines.append(f"{name.group(0)}=={metadata.version(name.group(0)).split('+')[0]}")
        except metadata.PackageNotFoundError:
            lines.append(requirement.strip())
    return sorted(set(lines))


def own_files() -> tuple[dict[str, Path | bytes], str]:
    """optkit as it runs here: its files as a wheel names them, and its metadata."""
    home = Path(__file__).parents[2]
    try:
        installed = metadata.distribution("optkit")
        text = installed.read_text("METADATA") or installed.read_text("PKG-INFO")  # the second: editable
    except metadata.PackageNotFoundError:
        text = None
    if text is None:
        raise OptkitError(
            "Expected optkit to be installed, received a bare source folder.", hint="pip install -e ."
        )
    sources = (f for f in sorted(home.rglob("*")) if f.is_file() and f.suffix != ".pyc")
    files: dict[str, Path | bytes] = {f"optkit/{f.relative_to(home).as_posix()}": f for f in sources}
    return files, text
