from __future__ import annotations

import json

import pytest

from optkit.core.artifact import MANIFEST, Artifact, seal
from optkit.core.output import staged
from optkit.errors import CheckpointError


def test_a_plain_checkpoint_is_an_artifact_without_lineage(checkpoint):
    artifact = Artifact.open(checkpoint)
    assert (artifact.format, artifact.lineage, artifact.manifest["files"]) == ("hf", [], {})
    assert artifact.size_bytes == (checkpoint / "model.safetensors").stat().st_size


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        Artifact.open(tmp_path / "no")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(CheckpointError, match="received the file"):
        Artifact.open(tmp_path / "x")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is empty"):
        Artifact.open(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_is_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="pickled weights") as raised:
        Artifact.open(tmp_path)
    assert "save_pretrained" in raised.value.hint


def test_weights_without_config_are_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Artifact.open(tmp_path)


def sealed(tmp_path, checkpoint):
    with staged(tmp_path / "made") as folder:
        (folder / "model.onnx").write_bytes(b"graph")
        seal(
            folder,
            Artifact.open(checkpoint),
            {"pass": "x", "parameters": {}},
            format="onnx",
            precision="int8",
        )
    return Artifact.open(tmp_path / "made")


def test_a_sealed_folder_remembers_what_made_it(tmp_path, checkpoint):
    made = sealed(tmp_path, checkpoint)
    assert (made.format, made.precision, [s["pass"] for s in made.lineage]) == ("onnx", "int8", ["x"])
    assert set(made.manifest["files"]) == {"model.onnx"}
    made.verify()


def test_a_changed_file_is_found(tmp_path, checkpoint):
    made = sealed(tmp_path, checkpoint)
    (made.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="sha256"):
        made.verify()


def test_a_file_that_points_outside_is_refused(tmp_path, checkpoint):
    made = sealed(tmp_path, checkpoint)
    secret = tmp_path / "secret"
    secret.write_bytes(b"graph")
    (made.path / "model.onnx").unlink()
    (made.path / "model.onnx").symlink_to(secret)
    with pytest.raises(CheckpointError, match="outside"):
        made.verify()


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": "optkit.artifact/99"}))
    with pytest.raises(CheckpointError, match="Expected schema"):
        Artifact.open(tmp_path)
