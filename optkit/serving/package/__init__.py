"""An artifact as something that others install: one file per format, the file's name is the format's.

Each has `write(artifact, folder, name, version)`, which fills an empty folder (or, for `wheel` and `zip`,
puts one file there) and gives a sentence on how to use it, and `wrote(folder)`: is all of it such a package?
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from optkit.core.artifact import MANIFEST, SIGNATURE, Artifact, copy_files
from optkit.core.output import claimed, staged
from optkit.core.registry import Registry
from optkit.errors import CheckpointError, RecipeError
from optkit.models.signing import open_signed, signed_files
from optkit.runtimes.settings import stored_runtime

FORMATS: Registry[ModuleType] = Registry(
    "format",
    "optkit.packages",
    {
        **{name: f"optkit.serving.package.{name}" for name in ("docker", "triton", "wheel", "zip")},
        "sentence-transformers": "optkit.serving.package.sentence_folder",
    },
)


@dataclass(frozen=True)
class Package:
    """The folder `path`, of `format`; `use` is a command that serves it."""

    path: Path
    format: str
    use: str


def package(
    path: str | Path,
    format: str,
    out: str | Path,
    *,
    name: str | None = None,
    version: str = "1",
    verify_key: str | Path | None = None,
    force: bool = False,
) -> Package:
    """Package an artifact for a serving stack. Every file is compared with the manifest first.

    Parameters:
        path: an artifact's folder.
        format: triton, docker, wheel, zip, or sentence-transformers.
        out: the folder to make.
        name: what the model is called where it is served. None: the folder's name.
        version: the model's version, numbers with points between them.
        verify_key: a public key (PEM) whose owner has to have signed the artifact.
        force: replace `out`, where all of it is an earlier package.

    Raises CheckpointError for a checkpoint that was not compressed, RecipeError for a name or version that
    the format cannot bear, OutputError where `out` holds something.

    >>> import optkit
    >>> optkit.package("models/sst2-int8", "triton", "triton-models").use
    'tritonserver --model-repository triton-models...'
    """
    chosen = FORMATS[format]
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
        use = chosen.write(artifact, folder, name, version)
    return Package(Path(out), format, use.replace("OUT", str(out)))


def is_package(folder: Path) -> bool:
    """Whether all of `folder` is a package that an earlier run wrote, in any format."""
    return any(format.wrote(folder) for format in FORMATS.values())


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
