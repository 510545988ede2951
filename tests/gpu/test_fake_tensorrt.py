"""The fake is as strict as it says."""

from __future__ import annotations

import pytest


def test_what_the_version_lacks_is_an_error(trt):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    with pytest.raises(AttributeError):
        _ = builder.build_cuda_engine
    with pytest.raises(AttributeError):
        _ = trt.NoSuchThing
    with pytest.raises(AttributeError):
        builder.create_builder_config().max_workspace_size = 1
    with pytest.raises(NotImplementedError):
        builder.is_network_supported(None, None)


def test_what_11_removed_is_gone_in_11_only(trt):
    old = trt.__version__.startswith("10")
    assert hasattr(trt.BuilderFlag, "FP16") == old
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == old
    config = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_builder_config()
    if old:
        with pytest.raises(NotImplementedError):
            _ = config.int8_calibrator
    else:
        with pytest.raises(AttributeError):
            _ = config.int8_calibrator


def test_a_batch_needs_a_profile(trt, plain):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    assert trt.OnnxParser(network, builder.logger).parse_from_file(str(plain.path / "model.onnx"))
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
