from __future__ import annotations

import pytest

from optkit.core.artifact import Artifact
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make


@pytest.fixture(scope="session")
def exported(checkpoint, context, tmp_path_factory) -> Artifact:
    """The tiny checkpoint as a fused fp32 graph."""
    return apply(make("export-onnx", {}), fetch(checkpoint), tmp_path_factory.mktemp("x") / "onnx", context)


@pytest.fixture(scope="session")
def source_of(checkpoint, exported):
    """A pass's input by format."""
    return {"hf": fetch(checkpoint), "onnx": exported}


@pytest.fixture(scope="session")
def plain(checkpoint, context, tmp_path_factory) -> Artifact:
    """The tiny checkpoint as an fp32 graph of standard operators."""
    step = make("export-onnx", {"attention": "plain"})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("p") / "onnx", context)
