"""What every runtime promises. A new runtime is in here once it has a case."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from optkit import runtimes
from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.errors import OptkitError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.runtimes.settings import runtime_settings
from optkit.tasks.base import open_task
from tests.gpu import install as fakes
from tests.gpu.fake_cuda import Machine

pytestmark = pytest.mark.usefixtures("fake_runtime")

RUNTIMES = ["fake", "onnxruntime", "openvino", "tensorrt", "torch"]


@pytest.fixture(scope="module")
def artifacts(checkpoint, tmp_path_factory):
    source = fetch(checkpoint)
    context = make_context(open_task(source))
    graph = apply(make("export-onnx", {}), source, tmp_path_factory.mktemp("r") / "onnx", context)
    found = {"torch": source, "onnxruntime": graph, "fake": source}
    if find_spec("openvino"):
        found["openvino"] = apply(
            make("open-vino", {}), graph, tmp_path_factory.mktemp("r") / "openvino", context
        )
    return found


@pytest.fixture
def engine(checkpoint, data, tmp_path, monkeypatch):
    """A TensorRT artifact, on a fake GPU with a fake of TensorRT 11."""
    fakes.tensorrt(monkeypatch, tmp_path, Machine(), "11")
    source = fetch(checkpoint)
    context = make_context(open_task(source), Data(str(data)))
    graph = apply(make("export-onnx", {"attention": "plain"}), source, tmp_path / "onnx", context)
    return apply(make("tensorrt", {}), graph, tmp_path / "engine", context)


@pytest.fixture(params=RUNTIMES)
def runtime_artifact(request, artifacts):
    """The runtime's name, and what it serves."""
    if request.param == "tensorrt":
        artifacts = {**artifacts, "tensorrt": request.getfixturevalue("engine")}
    if request.param not in artifacts:
        pytest.skip(f"{request.param} is not installed")
    return request.param, artifacts[request.param]


@pytest.fixture
def session(runtime_artifact):
    runtime, artifact = runtime_artifact
    with open_session(artifact, runtime) as session:
        yield session


@pytest.fixture
def encoded(checkpoint):
    return open_task(Artifact.open(checkpoint)).encode(["a fine film", "the plot is thin and dull", "good"])


def test_every_runtime_has_a_case():
    assert list(runtimes.RUNTIMES) == RUNTIMES


def test_outputs_are_named_float_arrays_one_row_per_example(session, encoded):
    outputs = session.infer(encoded.batch([0, 1, 2]))
    assert set(outputs) == {spec.name for spec in session.outputs}
    assert outputs["logits"].shape == (3, 2)
    assert outputs["logits"].dtype == np.float32


def test_the_same_input_gives_the_same_output(session, encoded):
    first, second = (session.infer(encoded.batch([0, 1]))["logits"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_outputs_do_not_depend_on_padding_or_neighbours(session, encoded):
    together = np.stack(infer_all(session, encoded, 3, 512)["logits"])
    alone = np.stack(infer_all(session, encoded, 1, 512)["logits"])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_a_missing_input_is_named(session, encoded):
    feeds = encoded.batch([0])
    del feeds["attention_mask"]
    with pytest.raises(OptkitError, match="attention_mask"):
        session.infer(feeds)


def test_unknown_inputs_are_ignored(session, encoded):
    feeds = encoded.batch([0])
    np.testing.assert_array_equal(
        session.infer({**feeds, "more": np.zeros(1)})["logits"], session.infer(feeds)["logits"]
    )


def test_closing_twice_is_fine(session):
    session.close()
    session.close()


def test_a_bucket_pads_and_changes_no_answer(runtime_artifact, encoded):
    runtime, artifact = runtime_artifact
    with open_session(artifact, runtime) as plain, open_session(artifact, runtime, bucket=8) as padded:
        for size in (1, 3):
            for name, rows in infer_all(plain, encoded, size, 512).items():
                others = infer_all(padded, encoded, size, 512)[name]
                for row, other in zip(rows, others, strict=True):
                    np.testing.assert_allclose(row, other, atol=1e-4)


def test_a_bucket_below_one_token_is_refused(artifacts):
    with pytest.raises(RecipeError, match="bucket"):
        open_session(artifacts["fake"], "fake", bucket=0)


def test_threads_can_be_set(runtime_artifact):
    runtime, artifact = runtime_artifact
    with open_session(artifact, runtime, threads=1) as session:
        assert session.inputs


def test_an_unknown_setting_gets_the_nearest_name(runtime_artifact):
    runtime, artifact = runtime_artifact
    with pytest.raises(RecipeError, match="'thread'") as raised:
        open_session(artifact, runtime, thread=1)
    assert "threads" in raised.value.hint
    assert {"threads", "bucket"} <= runtime_settings(runtime)


def test_an_unknown_runtime_gets_the_nearest_name(artifacts):
    with pytest.raises(RecipeError) as raised:
        open_session(artifacts["torch"], "onnxrutime")
    assert "onnxruntime" in raised.value.hint
