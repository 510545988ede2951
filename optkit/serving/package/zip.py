"""`zip`: the artifact as one file, the same bytes every time."""

from __future__ import annotations

import zipfile
from pathlib import Path

from optkit.artifact import Artifact

#: The oldest time that the format knows; a real one would change the bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    files = {n: artifact.path / n for n in ("optkit.json", *artifact.manifest["files"])}
    file = folder / f"{name}-{version}.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(files):
            add(archive, f"{name}/{inside}", files[inside])
    return f"unzip OUT/{file.name} && optkit predict {name} 'a text'"


def add(archive: zipfile.ZipFile, inside: str, content: Path | bytes) -> None:
    """Add a file without its time and rights; what lies on disk is not read into memory whole."""
    entry = zipfile.ZipInfo(inside, EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        while block := source.read(2**20):
            target.write(block)
