"""The same model in every format does the same work, and it is that of its weights."""

from __future__ import annotations

import pytest

from optkit.benchmarking import flops
from optkit.core.artifact import Artifact
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task

HIDDEN, INNER, LAYERS = 32, 64, 2
BATCH, TOKENS = 3, 10
PER_TOKEN = 2 * LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
ATTENTION = LAYERS * 4 * BATCH * TOKENS * TOKENS * HIDDEN
HEAD = 2 * BATCH * (HIDDEN * HIDDEN + HIDDEN * 2)
WEIGHTS = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER) + HIDDEN * HIDDEN + HIDDEN * 2


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    """model(*passes) → the artifact that these passes make of the checkpoint."""
    context = make_context(open_task(fetch(checkpoint)))

    def made(*passes: str) -> Artifact:
        artifact = fetch(checkpoint)
        for name in passes:
            out = tmp_path_factory.mktemp(name) / "out"
            parameters = {"one_token": False} if name == "export-onnx" else {}
            artifact = apply(make(name, parameters), artifact, out, context)
        return artifact

    return made


@pytest.mark.parametrize(
    "passes",
    [(), ("export-onnx",), ("export-onnx", "open-vino")],
    ids=["hf", "onnx", "openvino"],
)
def test_every_format_counts_the_same_operations(model, passes):
    if "open-vino" in passes:
        pytest.importorskip("openvino")
    [found] = flops.of(model(*passes), [(BATCH, TOKENS)])
    assert found.operations == PER_TOKEN * BATCH * TOKENS + ATTENTION + HEAD
    assert found.low == 0
    # torch counts biases and norms too, which a graph's multiplies do not read.
    assert 4 * WEIGHTS <= found.bytes < 4 * WEIGHTS * 1.1


def test_int8_is_seen(model):
    [found] = flops.of(model("export-onnx", "quantize-dynamic"), [(BATCH, TOKENS)])
    assert found.operations == PER_TOKEN * BATCH * TOKENS + ATTENTION + HEAD
    assert PER_TOKEN * BATCH * TOKENS <= found.low <= found.operations - ATTENTION


def test_a_folder_without_a_graph_is_not_counted(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert flops.of_openvino(tmp_path, [(1, 1)]) is None
