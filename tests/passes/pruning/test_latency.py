"""The table of times: what is measured, what is shared and what is interpolated; the clock plays no part."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import cut
from optkit.passes.pruning import latency, latency_worker
from optkit.passes.pruning.latency import Block, Conditions, tables
from tests.passes.pruning.models import ALL, build

NOW = Conditions(tokens=16)


class FakeChild:
    """Answers with `of(fields of the block, units)` ms, and remembers what it was asked."""

    asked: ClassVar[list] = []

    def __init__(self, module, threads):
        assert module == "optkit.passes.pruning.latency_worker"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, name, blocks, tokens, precision, threads):
        assert (name, tokens) == ("time", 16)
        self.asked.append(blocks)
        return [self.of(block, units) for block, units in blocks]

    @staticmethod
    def of(block, units):
        return (2.0 if block["kind"] == "heads" else 0.5) * units


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(latency, "Child", FakeChild)
    monkeypatch.setattr(latency, "_measured", {})
    monkeypatch.setattr(FakeChild, "asked", [])
    return FakeChild.asked


def test_equal_sublayers_share_one_measurement_and_narrower_ones_its_front(asked):
    places = sublayers(build("bert"))
    found = tables(places, NOW)
    assert [len(line) for line in found] == [5, 49] * 3
    assert found[0].tolist() == [0, 2, 4, 6, 8]
    assert found[1] == pytest.approx(0.5 * np.arange(49))
    assert len(asked) == 1
    kinds = [block["kind"] for block, _ in asked[0]]
    assert kinds == sorted(kinds, key=["heads", "ffn"].index)
    assert [units for block, units in asked[0] if block["kind"] == "heads"] == [1, 2, 3, 4]
    cut(places[1], range(20))
    cut(places[2], [])
    again = tables(places, NOW)
    assert len(again[1]) == 21
    assert again[2].tolist() == [0]
    assert len(asked) == 1
    tables(places, Conditions(tokens=16, precision="int8"))
    assert len(asked) == 2


def test_a_time_that_falls_with_the_width_is_noise(asked, monkeypatch):
    monkeypatch.setattr(FakeChild, "of", staticmethod(lambda block, units: 3.0 if units == 1 else 2.0))
    assert tables(sublayers(build("bert"))[:1], NOW)[0].tolist() == [0, 3, 3, 3, 3]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graphs_have_the_sizes_of_the_cut_layer(kind, precision, tmp_path):
    """Multiplies that ONNX Runtime is given are as many, and as large, as those of the model."""
    import onnx
    import onnxruntime

    model = build(kind)
    for place in sublayers(model)[:2]:
        units = max(1, place.units // 2)
        block = vars(Block.of(place))
        cut(place, range(units))
        file = tmp_path / f"{place.kind}.onnx"
        latency_worker.save(block, units, file, precision)
        session = onnxruntime.InferenceSession(str(file))
        x = np.ones((1, 7, place.output.weight.shape[0 if kind != "gpt2" else 1]), dtype=np.float32)
        assert session.run(None, {"x": x})[-1].shape == x.shape
        stored = sum(np.prod(t.dims) for t in onnx.load(file).graph.initializer if len(t.dims) == 2)
        assert stored == sum(m.weight.numel() for m in [*place.inputs, place.output])


def test_real_times_are_above_nothing():
    (line,) = tables(sublayers(build("bert"))[:1], Conditions(tokens=4, threads=1))
    assert line[0] == 0
    assert np.all(line[1:] > 0)
    assert np.all(np.diff(line) >= 0)
