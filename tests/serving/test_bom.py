"""The bill of materials: valid in CycloneDX's own schema, complete, and the same bytes every time."""

from __future__ import annotations

import json
import shutil
import zipfile
from importlib import metadata, util
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from optkit.core.artifact import Artifact
from optkit.core.files import sha256
from optkit.core.version import __version__
from optkit.errors import MissingDependency, RecipeError
from optkit.serving.package import FORMATS, package
from tests.serving.artifacts import artifact


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("model") / "small")


def bill(model: Path, format: str, out: Path, **settings) -> str:
    """The text of the bill of materials in a package."""
    package(model, format, out, **{"name": "small", "version": "1.2", **settings})
    if format in ("docker", "triton", "sentence-transformers"):
        return (out / "bom.cdx.json").read_text()
    (file,) = out.iterdir()
    inside = {"zip": "small.cdx.json", "wheel": "small-1.2.dist-info/sboms/bom.cdx.json"}[format]
    with zipfile.ZipFile(file) as archive:
        return archive.read(inside).decode()


@pytest.mark.parametrize("format", FORMATS)
def test_every_package_has_one_that_is_valid_and_lists_all(format, model, tmp_path):
    text = bill(model, format, tmp_path / "a")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert bill(model, format, tmp_path / "b") == text
    value = json.loads(text)
    assert "timestamp" not in value["metadata"]
    whole = value["metadata"]["component"]
    assert (whole["name"], whole["version"]) == ("small", "1.2")
    (found,) = [x for x in value["components"] if x["type"] == "machine-learning-model"]
    sums = {x["name"]: x["hashes"][0]["content"] for x in found["components"]}
    files = Artifact.open(model).manifest["files"]
    assert sums == {**files, "optkit.json": sha256(model / "optkit.json")}
    assert {x["hashes"][0]["alg"] for x in found["components"]} == {"SHA-256"}
    assert "licenses" not in found
    libraries = {x["name"]: x for x in value["components"] if x["type"] == "library"}
    wanted = {"numpy", "tokenizers", *(() if format == "triton" else ("onnxruntime", "optkit"))}
    if format == "sentence-transformers":  # of any version, and none of optkit's needs
        assert libraries.pop(format)["purl"] == f"pkg:pypi/{format}"
        wanted = set()
    assert wanted <= set(libraries)
    for name, library in libraries.items():
        version = __version__ if name == "optkit" else metadata.version(name)
        assert library["version"] == version.split("+")[0]
        assert library["purl"] == f"pkg:pypi/{name.replace('_', '-').lower()}@{library['version']}"
    depends = {x["ref"]: x.get("dependsOn", []) for x in value["dependencies"]}
    assert set(depends[whole["bom-ref"]]) == {x["bom-ref"] for x in value["components"]}


def test_the_pins_of_the_image_are_in_it(model, tmp_path):
    value = json.loads(bill(model, "docker", tmp_path / "a"))
    pins = set((tmp_path / "a" / "requirements.txt").read_text().splitlines())
    listed = {f"{x['name']}=={x['version']}" for x in value["components"] if x["type"] == "library"}
    assert listed == pins | {f"optkit=={__version__}"}


def test_another_model_or_version_has_another_number(model, tmp_path):
    first = json.loads(bill(model, "zip", tmp_path / "a"))
    other = json.loads(bill(model, "zip", tmp_path / "b", name="small", version="1.2"))
    assert first["serialNumber"] == other["serialNumber"]
    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    manifest = json.loads((folder / "optkit.json").read_text())
    (folder / "optkit.json").write_text(json.dumps({**manifest, "license": "apache-2.0"}))
    changed = json.loads(bill(folder, "zip", tmp_path / "c"))
    assert changed["serialNumber"] != first["serialNumber"]


def test_a_time_only_where_it_is_given(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    value = json.loads(bill(model, "zip", tmp_path / "a"))
    assert value["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    for text in ("yesterday", "9" * 30, "-1e3"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
        with pytest.raises(RecipeError, match="SOURCE_DATE_EPOCH"):
            package(model, "zip", tmp_path / "b", name="small")
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("apache-2.0", {"license": {"id": "Apache-2.0"}}),
        ("MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
        ("llama3", {"license": {"name": "llama3"}}),
    ],
)
def test_the_license_that_the_model_states(stated, expected, model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    manifest = json.loads((folder / "optkit.json").read_text())
    (folder / "optkit.json").write_text(json.dumps({**manifest, "license": stated}))
    text = bill(folder, "zip", tmp_path / "a")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (found,) = [x for x in json.loads(text)["components"] if x["type"] == "machine-learning-model"]
    (license,) = found["licenses"]
    license.get("license", license).pop("bom-ref", None)
    assert license == expected


def test_without_the_extra_the_error_names_it(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        util, "find_spec", lambda name, real=util.find_spec: None if name == "cyclonedx" else real(name)
    )
    with pytest.raises(MissingDependency) as raised:
        package(model, "zip", tmp_path / "a", name="small")
    assert 'pip install "optkit[package]"' in raised.value.hint
    assert not (tmp_path / "a").exists()
