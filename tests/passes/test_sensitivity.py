from __future__ import annotations

import numpy as np
import pytest

from optkit.core.artifact import copy_side_files, seal
from optkit.errors import DataError
from optkit.passes import graph
from optkit.passes.calibration import _mse, activation_ranges
from optkit.passes.sensitivity import scan


@pytest.fixture
def samples(context):
    return context.encoded("train", 16)


def names_of(artifact):
    return graph.quantizable(graph.load_graph(artifact.path), ())


def test_every_multiply_gets_a_distance_most_sensitive_first(exported, samples):
    names = names_of(exported)
    found = scan(exported, samples, names)
    distances = [distance for _, distance in found]
    assert sorted(name for name, _ in found) == sorted(names)
    assert distances == sorted(distances, reverse=True)
    assert all(distance > 0 for distance in distances)


def test_a_multiply_with_an_outlier_channel_input_ranks_first(exported, samples, tmp_path):
    """One huge unused input range: a product of two weights that leaves the fp32 outputs as they were."""
    from onnx import numpy_helper

    model = graph.load_graph(exported.path)
    target = next(n for n in graph.matmuls_with_weights(model) if n.op_type == "MatMul")
    weight = graph.initializers(model)[target.input[1]]
    values = numpy_helper.to_array(weight).copy()
    values[:, :] *= np.where(np.arange(len(values)) == 0, 1e-6, 1.0)[:, None]
    values[1] *= 300.0  # one row dominates each output channel's scale, so the others round to nothing
    weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))
    folder = tmp_path / "outlier"
    folder.mkdir()
    graph.save_graph(model, folder)
    copy_side_files(exported.path, folder)
    changed = seal(folder, exported, {"pass": "x", "parameters": {}, "notes": {}, "seconds": 0.0})
    before, after = dict(scan(exported, samples, [target.name])), dict(scan(changed, samples, [target.name]))
    assert after[target.name] > before[target.name]


def test_scanning_again_gives_the_same(exported, samples):
    names = names_of(exported)[:3]
    assert scan(exported, samples, names) == scan(exported, samples, names)


def test_no_examples_are_refused(exported, samples):
    with pytest.raises(DataError, match="received none"):
        scan(exported, samples.take([]), names_of(exported))


def test_mse_cuts_a_lone_outlier_and_keeps_an_even_spread():
    edges = np.linspace(-1.0, 100.0, 4097)
    counts = np.zeros(4096, dtype=np.int64)
    counts[:80] = 100_000  # -1 to 1
    counts[-1] = 1
    _, high = _mse(counts, edges)
    assert high < 100.0
    even = np.full(4096, 10)
    assert _mse(even, np.linspace(-1.0, 1.0, 4097))[1] > 0.97


def test_every_method_keeps_zero_in_the_range(exported, samples):
    model = graph.load_graph(exported.path)
    node = graph.matmuls_with_weights(model)[0]
    for method in ("min-max", "percentile", "entropy", "mse"):
        (limits,) = activation_ranges(
            model, [node.input[0]], samples, method, 99.9, lambda text, fraction: None
        ).values()
        assert limits[0] <= 0 <= limits[1]
        assert limits[0] < limits[1]
