from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from optkit.models.checkpoint import fetch
from optkit.passes import graph
from optkit.passes.base import apply, make
from optkit.passes.smooth_quant import smooth


def logits(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]


@pytest.fixture(scope="module")
def apart(checkpoint, context, tmp_path_factory):
    """The tiny checkpoint with query, key and value apart."""
    step = make("export-onnx", {"pack_projections": False})
    return apply(step, fetch(checkpoint), tmp_path_factory.mktemp("apart") / "onnx", context)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_outputs_in_float_stay_what_they_were(apart, context, strength):
    samples = context.encoded("train", 16)
    model = graph.load_graph(apart.path)
    feeds = samples.batch(np.arange(8))
    before = logits(model, feeds)
    names = graph.quantizable(model, ())
    groups = smooth(model, names, samples, strength)
    inputs = {n.input[0] for n in model.graph.node if n.name in names}
    assert groups == len(inputs)
    assert groups < len(names), "query, key and value share one input"
    np.testing.assert_allclose(logits(model, feeds), before, atol=1e-3, rtol=1e-3)


def test_full_strength_makes_every_channel_reach_as_far(exported, context):
    """At strength 1 each channel is divided by its own largest value: all reach 1."""
    samples = context.encoded("train", 16)
    model = graph.load_graph(exported.path)
    node = graph.matmuls_with_weights(model)[0]
    before = numpy_helper.to_array(graph.initializers(model)[node.input[1]]).copy()
    tensor = node.input[0]
    smooth(model, [node.name], samples, 1.0)
    (scale,) = (t for t in model.graph.initializer if t.name == f"{tensor}_smooth_factor")
    after = numpy_helper.to_array(graph.initializers(model)[node.input[1]])
    np.testing.assert_allclose(after * numpy_helper.to_array(scale)[:, None], before, rtol=1e-4, atol=1e-6)
    from optkit.passes.smooth_quant import _channel_maxima

    reach = _channel_maxima(model, [f"{tensor}_smooth"], samples)[f"{tensor}_smooth"]
    np.testing.assert_allclose(reach, 1.0, rtol=1e-3)


def test_the_pass_notes_what_it_smoothed(exported, context, tmp_path):
    made = apply(make("quantize-static", {"smooth_quant": 0.5}), exported, tmp_path / "q", context)
    assert made.lineage[-1]["notes"]["smoothed_inputs"] > 0
    names = [tensor.name for tensor in graph.load_graph(made.path).graph.initializer]
    assert len(names) == len(set(names)), "the quantizer names its scales after the inputs"
    plain = apply(make("quantize-static", {}), exported, tmp_path / "p", context)
    assert plain.lineage[-1]["notes"]["smoothed_inputs"] == 0


def test_activations_that_overflow_are_refused(exported, context, tmp_path):
    """SmoothQuant sees them first; the pass still says what is wrong, and leaves nothing behind."""
    from optkit.core.artifact import copy_side_files, seal
    from optkit.errors import PassError

    model = graph.load_graph(exported.path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("LayerNorm.weight"):
            huge = np.full(tuple(tensor.dims), 3e38, dtype=np.float32)  # finite, what it multiplies is not
            tensor.CopyFrom(numpy_helper.from_array(huge, tensor.name))
    folder = tmp_path / "overflowing"
    folder.mkdir()
    graph.save_graph(model, folder)
    copy_side_files(exported.path, folder)
    source = seal(folder, exported, {"pass": "x", "parameters": {}, "notes": {}, "seconds": 0.0})
    for fields in ({"smooth_quant": 0.5}, {"bias_correction": True}):
        with pytest.raises(PassError, match="NaN or infinite on calibration data"):
            apply(make("quantize-static", fields), source, tmp_path / "q", context)
        assert not (tmp_path / "q").exists()
