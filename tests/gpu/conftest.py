"""A machine with a fake GPU and a fake TensorRT of each major version."""

from __future__ import annotations

import pytest

from optkit.data.dataset import Data
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task
from tests.gpu import install
from tests.gpu.fake_cuda import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(params=["10", "11"])
def trt(request, machine, monkeypatch, tmp_path):
    """The fake package, installed as `tensorrt`, on a fake GPU."""
    return install.tensorrt(monkeypatch, tmp_path, machine, request.param)


@pytest.fixture(scope="session")
def context(checkpoint, data):
    return make_context(open_task(fetch(checkpoint)), Data(str(data)))


@pytest.fixture(scope="session")
def plain(checkpoint, context, tmp_path_factory):
    """The tiny checkpoint in standard ONNX operators."""
    step = make("export-onnx", {"attention": "plain"})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("plain") / "onnx", context)


@pytest.fixture(scope="session")
def fused(checkpoint, context, tmp_path_factory):
    step = make("export-onnx", {"attention": "fused"})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("fused") / "onnx", context)


@pytest.fixture
def engine(trt, plain, context, tmp_path):
    """A built artifact; largest batch 8."""
    return apply(make("tensorrt", {"batch_max": 8}), plain, tmp_path / "engine", context)
