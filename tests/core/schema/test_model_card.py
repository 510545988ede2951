from __future__ import annotations

import os

import pytest

from optkit.core.artifact import Artifact, seal
from optkit.core.schema.model_card import stated_license


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- x\n---\n# Model\n", "apache-2.0"),
        ("---\nlanguage: en\nlicense: 'mit'\n---\n", "mit"),
        ("---\r\nlicense: mit  # free\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: my-license\n---\n", "my-license"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n- mit\n---\n", None),
        ("---\nlicense: <script>\n---\n", None),
        ("---\nlicense: " + "a" * 200 + "\n---\n", None),
        ("# Model\nlicense: mit\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_license_of_a_model_card(text, license, tmp_path):
    (tmp_path / "README.md").write_bytes(text.encode())
    assert stated_license(tmp_path) == license


def test_a_readme_that_is_none(tmp_path):
    assert stated_license(tmp_path) is None
    os.mkfifo(tmp_path / "README.md")
    assert stated_license(tmp_path) is None


def test_the_license_goes_along_from_the_checkpoint(checkpoint, tmp_path):
    import shutil

    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "model.onnx").write_bytes(b"graph")
    seal(tmp_path / "made", Artifact.open(folder), {"pass": "x", "parameters": {}}, format="onnx")
    assert Artifact.open(tmp_path / "made").manifest["license"] == "cc-by-4.0"
