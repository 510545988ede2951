"""An artifact as something that others install: one file per format, the file's name is the format's.

Each has `write(artifact, folder, name, version)`, which fills an empty folder (or, for `wheel` and `zip`,
puts one file there), and gives a sentence on how to use it.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from optkit.artifact import MANIFEST, SIGNATURE, Artifact, copy_files
from optkit.core.output import claimed, staged
from optkit.errors import CheckpointError, RecipeError, did_you_mean
from optkit.models.signing import open_signed, signed_files
from optkit.runtimes.base import stored_runtime
from optkit.serving.package.bom import NAME as BOM

FORMATS = ("docker", "triton", "wheel", "zip")


def package(
    path: str | Path,
    format: str,
    out: str | Path,
    *,
    name: str | None = None,
    version: str = "1",
    verify_key: str | Path | None = None,
    force: bool = False,
) -> str:
    """Package the artifact at `path` into the new folder `out`; gives how to use the result.

    `name` (default: the folder's name) is what the model is called where it is served. Every file is
    compared with the manifest first. Raises CheckpointError for a checkpoint that was not compressed,
    RecipeError for a name or version that the format cannot bear.

    >>> package("models/sst2-int8", "triton", "triton-models")
    'tritonserver --model-repository triton-models...'
    """
    if format not in FORMATS:
        raise RecipeError(f"Unknown format {format!r}.", hint=did_you_mean(format, FORMATS))
    artifact = open_signed(path, verify_key)
    if artifact.format == "hf":
        raise CheckpointError(
            f"Expected an artifact to package, received a checkpoint in {str(path)!r}.",
            hint="Make one with optkit compress.",
        )
    stored_runtime(artifact)  # nobody packages what no server would load
    artifact.verify()
    name = name or re.sub(r"[^a-z0-9]+", "-", artifact.path.resolve().name.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise RecipeError(f"Expected a name of a-z, 0-9 and -, received {name!r}.", hint="Give --name.")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", version):
        raise RecipeError(f"Expected a version such as 1 or 1.2.0, received {version!r}.")
    with claimed(out, force, [path], is_package), staged(Path(out), force, is_package) as folder:
        use = import_module(f"optkit.serving.package.{format}").write(artifact, folder, name, version)
    return use.replace("OUT", str(out))


def is_package(folder: Path) -> bool:
    """Whether all of `folder` is a package that an earlier run wrote, in any format."""
    names = {path.name for path in folder.iterdir()}
    if "Dockerfile" in names:
        mine = {".dockerignore", "Dockerfile", BOM, "model", "requirements.txt", "wheels"}
        return names <= mine and (folder / "model" / "optkit.json").is_file()
    first = min(names)
    if len(names) == 1 and first.endswith((".whl", ".zip")) and zipfile.is_zipfile(folder / first):
        with zipfile.ZipFile(folder / first) as archive:
            return any(Path(name).name == "optkit.json" for name in archive.namelist())
    names.discard(BOM)
    inner = next((name for name in names if name.endswith("-tensors")), "")
    if not inner or names - {inner, inner.removesuffix("-tensors")}:
        return False
    return all((folder / name / "config.pbtxt").is_file() for name in names)


def is_signed(artifact: Artifact) -> bool:
    return (artifact.path / SIGNATURE).exists()


def carried(artifact: Artifact) -> list[str]:
    """The names of the files that a package holds: the manifest and what it lists; of a signed artifact, all
    that is signed, reports among them, and the signature."""
    listed = {MANIFEST, *artifact.manifest["files"]}
    return sorted(listed.union(signed_files(artifact.path)) if is_signed(artifact) else listed)


def copy_artifact(artifact: Artifact, target: Path) -> None:
    """What a package holds of the artifact."""
    copy_files(artifact.path, carried(artifact), target)
    replace(artifact, path=target).verify()  # what was copied, not what lay there before
