"""The software bill of materials of a package: the model with its files, and what it is to run on.

CycloneDX 1.6 in JSON. The same artifact gives the same bytes: its serial number is drawn from its contents,
and a time stands in it only where $SOURCE_DATE_EPOCH gives one.
Source: https://cyclonedx.org/docs/1.6/json/, https://reproducible-builds.org/specs/source-date-epoch/
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata, util
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.files import sha256
from optkit.core.version import __version__
from optkit.errors import MissingDependency, RecipeError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

#: The file's name, of the kind that CycloneDX recommends.
NAME = "bom.cdx.json"
#: optkit as a requirement, as it is where the package is made.
OPTKIT = f"optkit=={__version__}"


def write_bom(artifact: Artifact, name: str, version: str, kind: str, requirements: Sequence[str]) -> bytes:
    """The bill of materials of the package `name` of `artifact`, for the format `kind`.

    `requirements` are what it needs installed, lines as for pip, such as numpy==2.4.6; a line without ==
    names a package whose version is not settled. Raises MissingDependency without the extra `package`,
    RecipeError for a $SOURCE_DATE_EPOCH that is no time.
    """
    if util.find_spec("cyclonedx") is None:
        raise MissingDependency.of("cyclonedx", "package")
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    whole = Component(
        name=name,
        version=version,
        type=ComponentType.CONTAINER if kind == "docker" else ComponentType.APPLICATION,
        bom_ref=f"package:{kind}/{name}@{version}",
    )
    parts = [
        _model(artifact, name, version),
        *map(_library, sorted(set(requirements))),
    ]
    bom = Bom(components=parts)
    bom.metadata.component = whole
    bom.metadata.timestamp = _time()  # type: ignore[assignment]  # None: it is left out
    bom.register_dependency(whole, parts)
    facts = [name, version, kind, sha256(artifact.path / MANIFEST), *requirements]
    bom.serial_number = uuid5(NAMESPACE_URL, "\n".join(facts))
    return (JsonV1Dot6(bom).output_as_string(indent=2) + "\n").encode()


def _model(artifact: Artifact, name: str, version: str) -> Component:
    """The model as a component, each of its files as one within it."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    sums = {MANIFEST: sha256(artifact.path / MANIFEST), **artifact.manifest["files"]}
    facts = {"format": artifact.format, "precision": artifact.precision, "task": artifact.task}
    return Component(
        name=name,
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{name}@{version}",
        licenses=_licenses(artifact.manifest.get("license")),
        properties=[Property(name=f"optkit:{key}", value=value) for key, value in facts.items() if value],
        components=[
            Component(
                name=file,
                type=ComponentType.FILE,
                bom_ref=f"file:{file}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)],
            )
            for file, content in sums.items()
        ],
    )


def _library(requirement: str) -> Component:
    """A Python package, with the license that it states where it is installed."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    version = requirement.partition("==")[2] or None
    try:
        stated = metadata.metadata(name).get("License-Expression")
    except metadata.PackageNotFoundError:
        stated = None
    url = PackageURL("pypi", name=re.sub(r"[-_.]+", "-", name).lower(), version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=url.to_string(),
        licenses=_licenses(stated),
    )


def _licenses(stated: str | None) -> list[License]:
    """A license by its SPDX identifier or expression where it is one, else by its name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(stated)] if stated else []


def _time() -> datetime | None:
    """Raises RecipeError."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as reason:
        raise RecipeError(
            f"Expected seconds since 1970 in $SOURCE_DATE_EPOCH, received {text[:40]!r}.", hint="Or unset it."
        ) from reason
