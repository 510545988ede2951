"""`zip`: the artifact as one file, the same bytes every time."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError
from optkit.serving.package import carried
from optkit.serving.package.bom import OPTKIT, write_bom
from optkit.serving.package.requirements import extras_of, pinned

#: The oldest time that the format knows; a real one would change the bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    files = {n: artifact.path / n for n in carried(artifact)}
    file = folder / f"{name}-{version}.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(files):
            written = add(archive, f"{name}/{inside}", files[inside])
            check_written(artifact, inside, written)
        needed = pinned(set(extras_of(artifact)))
        add(archive, f"{name}.cdx.json", write_bom(artifact, name, version, "zip", [OPTKIT, *needed]))
    return f"unzip OUT/{file.name} && optkit predict {name} 'a text'"


def wrote(folder: Path, ending: str = ".zip") -> bool:
    """Whether `folder` is one archive with an artifact in it."""
    files = list(folder.iterdir())
    if len(files) != 1 or not files[0].name.endswith(ending) or not zipfile.is_zipfile(files[0]):
        return False
    with zipfile.ZipFile(files[0]) as archive:
        return any(Path(name).name == "optkit.json" for name in archive.namelist())


def check_written(artifact: Artifact, name: str, sha256: str) -> None:
    """Raise CheckpointError where what was packed as `name` is not what the manifest lists."""
    expected = artifact.manifest["files"].get(name, sha256)
    if sha256 != expected:
        raise CheckpointError(
            f"{name!r} in {str(artifact.path)!r} was changed while it was packed.", hint="Run it again."
        )


def add(archive: zipfile.ZipFile, inside: str, content: Path | bytes) -> str:
    """Add a file without its time and rights, not read into memory whole; gives its sha256."""
    entry = zipfile.ZipInfo(inside, EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    digest = hashlib.sha256()
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return hashlib.sha256(content).hexdigest()
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        while block := source.read(2**20):
            target.write(block)
            digest.update(block)
    return digest.hexdigest()
