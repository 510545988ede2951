from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from optkit import errors
from optkit.errors import MissingDependency, OptkitError, by_name, did_you_mean

#: What ends a command; the errors that an HTTP server answers with are its own.
CLASSES = [OptkitError, *(c for c in OptkitError.__subclasses__() if c.__module__ == errors.__name__)]


@pytest.mark.parametrize("cls", CLASSES)
def test_the_tree_in_the_docstring_names_each_class_with_its_exit_code(cls):
    assert re.search(rf"{cls.__name__}\s+{cls.exit_code}\b", errors.__doc__)


def test_exit_codes_are_distinct():
    codes = [cls.exit_code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


@pytest.mark.parametrize("cls", CLASSES)
def test_a_class_is_found_by_its_name(cls):
    assert by_name(cls.__name__) is cls


def test_a_missing_package_names_its_extra():
    assert "optkit[openvino]" in MissingDependency.of("openvino", "openvino").hint


def test_an_import_that_failed_names_its_extra():
    found = MissingDependency.behind(ModuleNotFoundError("none", name="onnx.helper"))
    assert "'onnx'" in str(found)
    assert "optkit[compress]" in found.hint
    for error in (
        ModuleNotFoundError("none", name="optkit.x"),
        ModuleNotFoundError("none"),
        KeyError("onnx"),
    ):
        assert MissingDependency.behind(error) is None


def test_every_package_of_an_extra_is_known():
    file = Path(__file__).parents[1] / "pyproject.toml"
    extras = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    imported = {
        "scikit-learn": "sklearn",
        "pillow": "PIL",
        "cuda-bindings": "cuda",
        "cyclonedx-python-lib": "cyclonedx",
        "pyopenssl": "OpenSSL",
    }
    assert set(errors.EXTRAS) == set(extras) - {
        "gpu",
        "dev",
        "docs",
    }  # onnxruntime is in the base, in its CPU form
    for extra, packages in errors.EXTRAS.items():
        names = [re.match(r"[\w-]+", line).group() for line in extras[extra]]
        wanted = {imported.get(name, name.replace("-", "_")) for name in names if name != "optkit"}
        assert wanted <= set(packages)


def test_the_nearest_name_or_all_names():
    assert did_you_mean("exprot-onnx", ["export-onnx", "prune"]) == "Did you mean 'export-onnx'?"
    assert "prune" in did_you_mean("zzz", ["export-onnx", "prune"])


def test_a_hint_names_some_of_very_many_names():
    from optkit.errors import did_you_mean

    hint = did_you_mean("x", [f"name-{i}" for i in range(500)])
    assert hint.startswith("Valid are 500 names, as name-")
    assert len(hint) < 200
