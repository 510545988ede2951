"""The pass `tensorrt` on the strict fake, for TensorRT 10 and 11."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from optkit.compression.build import build
from optkit.core.artifact import Artifact
from optkit.core.files import sha256
from optkit.errors import CheckpointError, OptkitError, PassError
from optkit.passes.base import apply, make
from optkit.runtimes.base import open_session
from tests.gpu import install


def config_of(trt):
    return trt._builds[-1][1]


def test_the_network_is_strongly_typed_on_10_and_needs_no_flag_on_11(trt, engine):
    flags = trt._builds[-1][0]._flags
    if trt.__version__.startswith("10"):
        assert flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    else:
        assert flags == 0


def test_settings_reach_the_builder(trt, plain, context, tmp_path):
    fields = {
        "workspace_mib": 64,
        "optimization_level": 5,
        "version_compatible": True,
        "hardware_compatible": "ampere-plus",
        "refit": True,
        "weight_streaming": True,
    }
    apply(make("tensorrt", fields), plain, tmp_path / "e", context)
    assert config_of(trt)._set == {
        "WORKSPACE": 64 * 2**20,
        "builder_optimization_level": 5,
        "profiling_verbosity": "DETAILED",
        "hardware_compatibility_level": "AMPERE_PLUS",
    }
    assert config_of(trt)._flags == ["VERSION_COMPATIBLE", "REFIT", "WEIGHT_STREAMING"]


def test_no_flags_without_being_asked(trt, engine):
    assert config_of(trt)._flags == []


def test_profiles_follow_the_data_and_leave_no_gap(trt, engine):
    shapes = [p._shapes["input_ids"] for p in config_of(trt)._profiles]
    assert len(shapes) == 2
    assert shapes[0][0] == (1, 1)
    assert shapes[1][0][1] == shapes[0][2][1] + 1
    assert shapes[-1][2] == (8, 64)  # batch_max, and the model's longest
    assert set(config_of(trt)._profiles[0]._shapes) == {"input_ids", "attention_mask", "token_type_ids"}


def test_the_manifest_records_what_the_engine_is_bound_to(trt, engine):
    notes = engine.lineage[-1]["notes"]
    assert notes["built_for"] == {
        "gpu": "Fake H200",
        "compute_capability": "9.0",
        "tensorrt": trt.__version__,
        "driver": None,
        "cuda": "13.1",
    }
    assert json.loads((engine.path / "engine-layers.json").read_text())["Layers"]
    assert notes["layers"] == 2
    assert notes["layer_types"] == {"fused attention": 1, "gemm": 1}
    assert notes["layer_outputs"] == {"Half": 2}
    engine.verify()


def test_every_error_of_the_parser_comes_with_its_node(trt, fused, context, tmp_path):
    with pytest.raises(PassError, match="2 errors") as raised:
        apply(make("tensorrt", {}), fused, tmp_path / "e", context)
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert all("(MultiHeadAttention): No importer for com.microsoft" in line for line in lines[1:])
    assert "plain" in raised.value.hint
    assert not (tmp_path / "e").exists()


def test_a_build_that_fails_says_so(trt, plain, context, tmp_path):
    trt._fail_build = True
    with pytest.raises(PassError, match="could not build"):
        apply(make("tensorrt", {}), plain, tmp_path / "e", context)


def test_the_timing_cache_is_kept_between_builds(trt, plain, context, tmp_path):
    step = make("tensorrt", {"timing_cache": str(tmp_path / "times")})
    first, second = (apply(step, plain, tmp_path / n, context) for n in "ab")
    assert not first.lineage[-1]["notes"]["timing_cache_used"]
    assert second.lineage[-1]["notes"]["timing_cache_used"]


def test_a_timing_cache_of_another_version_is_left_out(trt, plain, context, tmp_path):
    step = make("tensorrt", {"timing_cache": str(tmp_path / "times")})
    apply(step, plain, tmp_path / "a", context)
    (file,) = (tmp_path / "times").iterdir()
    file.write_bytes(b"timed by another version")
    assert not apply(step, plain, tmp_path / "b", context).lineage[-1]["notes"]["timing_cache_used"]


def test_another_gpu_is_refused_and_build_makes_it_anew(trt, engine, monkeypatch):
    install.gpu(monkeypatch, name=b"Fake L4", capability=(8, 9))
    with pytest.raises(CheckpointError, match="Fake H200.*this one is Fake L4") as raised:
        open_session(engine)
    assert f"optkit build {engine.path}" in raised.value.hint
    before = engine.lineage[-1]
    (engine.path / "report.json").write_text("{}")
    made = build(engine.path)
    assert made.path == engine.path
    assert (engine.path / "report.json").read_text() == "{}"
    assert "report.json" not in made.manifest["files"]
    assert made.lineage[-1]["notes"]["built_for"]["gpu"] == "Fake L4"
    assert made.lineage[-1]["parameters"] == before["parameters"]
    assert made.lineage[-1]["notes"]["profiles"] == before["notes"]["profiles"]
    assert len(made.lineage) == len(engine.lineage)
    made.verify()
    with open_session(made) as session:
        ones = np.ones((1, 4), dtype=np.int64)
        assert np.isfinite(session.infer({s.name: ones for s in session.inputs})["logits"]).all()


def test_another_tensorrt_is_refused(trt, engine, monkeypatch):
    monkeypatch.setattr(trt, "__version__", "10.20.0" if trt.__version__[:2] == "10" else "11.9.0")
    with pytest.raises(CheckpointError, match="TensorRT .*, and this is"):
        open_session(engine)


def test_a_version_compatible_engine_loads_in_a_newer_one(trt, plain, context, tmp_path, monkeypatch):
    made = apply(make("tensorrt", {"version_compatible": True}), plain, tmp_path / "e", context)
    monkeypatch.setattr(trt, "__version__", "10.99.0" if trt.__version__[:2] == "10" else "11.9.0")
    open_session(made).close()
    monkeypatch.setattr(trt, "__version__", "10.13.0" if trt.__version__[:2] == "10" else "11.0.0")
    with pytest.raises(CheckpointError):
        open_session(made)


def test_a_version_that_is_too_old_is_refused(trt, plain, context, tmp_path, monkeypatch):
    monkeypatch.setattr(trt, "__version__", "8.6.1")
    with pytest.raises(OptkitError, match="Expected TensorRT 10.13 to 11, received 8.6.1"):
        apply(make("tensorrt", {}), plain, tmp_path / "e", context)


def test_build_refuses_what_is_no_engine(trt, plain):
    with pytest.raises(CheckpointError, match="Expected a TensorRT artifact"):
        build(plain.path)


def test_files_in_folders_travel_with_the_engine(trt, plain, context, tmp_path):
    """A sentence-transformers model has settings in 1_Pooling."""
    copy = Artifact.open(shutil.copytree(plain.path, tmp_path / "copy"))
    (copy.path / "1_Pooling").mkdir()
    (copy.path / "1_Pooling" / "config.json").write_text("{}")
    manifest = copy.manifest
    manifest["files"]["1_Pooling/config.json"] = sha256(copy.path / "1_Pooling" / "config.json")
    made = apply(make("tensorrt", {}), copy, tmp_path / "e", context)
    again = build(made.path, tmp_path / "again")
    for artifact in (made, again):
        assert (artifact.path / "1_Pooling" / "config.json").read_text() == "{}"
        assert "1_Pooling/config.json" in artifact.manifest["files"]


def test_build_refuses_a_graph_that_was_changed(trt, engine, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(engine.path, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        build(copy)
