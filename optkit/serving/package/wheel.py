"""`wheel`: a package for pip that carries the artifact and depends on optkit."""

from __future__ import annotations

import base64
import keyword
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from optkit.core.artifact import Artifact
from optkit.core.version import __version__
from optkit.errors import CheckpointError, RecipeError
from optkit.serving.package import carried, zip
from optkit.serving.package.bom import NAME, OPTKIT, write_bom
from optkit.serving.package.requirements import extras_of, pinned
from optkit.serving.package.zip import add

_MODULE = '''"""The model {name}, version {version}; made by optkit {optkit}."""

from pathlib import Path

from optkit import load as _load

PATH = Path(__file__).parent / "artifact"
__version__ = "{version}"


def load(**options):
    """A predictor: load().predict(["a text"]). See optkit.load for `options`."""
    return _load(PATH, **options)
'''


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    module, needed = name.replace("-", "_"), extras_of(artifact)
    extras = ",".join(needed)
    if module[0].isdigit() or keyword.iskeyword(module) or module == "optkit":
        raise RecipeError(f"Expected a name that Python can import, received {name!r}.", hint="Give --name.")
    files: dict[str, Path | bytes] = {f"{module}/artifact/{n}": artifact.path / n for n in carried(artifact)}
    text = _MODULE.format(name=name, version=version, optkit=__version__)
    files[f"{module}/__init__.py"] = text.encode()
    bill = write_bom(artifact, name, version, "wheel", [OPTKIT, *pinned(set(needed))])
    files[f"{module}-{version}.dist-info/sboms/{NAME}"] = bill  # its place by PEP 770
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Summary: {artifact.task} in {artifact.precision}, made by optkit\nRequires-Python: >=3.11\n"
        f"Requires-Dist: optkit{f'[{extras}]' if extras else ''}>={__version__}\n"
    )
    expected = {f"{module}/artifact/{n}": sha256 for n, sha256 in artifact.manifest["files"].items()}
    file = write_wheel(folder, module, version, files, metadata, expected=expected)
    return (
        f'pip install OUT/{file.name} && python -c "import {module}; print({module}.load().predict([...]))"'
    )


def wrote(folder: Path) -> bool:
    return zip.wrote(folder, ".whl")


def write_wheel(
    folder: Path,
    module: str,
    version: str,
    files: Mapping[str, Path | bytes],
    metadata: str,
    entry_points: str = "",
    expected: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """A pure wheel of `files` (name inside → content), of which some have a known sha256 (`expected`).

    Source: the binary distribution format (PEP 427). Raises CheckpointError where a file is another one.
    """
    info = f"{module}-{version}.dist-info"
    everything: dict[str, Path | bytes] = {
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: optkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **({f"{info}/entry_points.txt": entry_points.encode()} if entry_points else {}),
    }
    file, record = folder / f"{module}-{version}-py3-none-any.whl", []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(everything):
            content = everything[inside]
            written = add(archive, inside, content)
            if written != expected.get(inside, written):
                raise CheckpointError(f"{inside!r} was changed while it was packed.", hint="Run it again.")
            digest = base64.urlsafe_b64encode(bytes.fromhex(written)).rstrip(b"=").decode()
            record.append(f"{inside},sha256={digest},{archive.getinfo(inside).file_size}")
        add(archive, f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]).encode())
    return file
