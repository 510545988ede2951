"""One contract for the three providers of device memory, on fakes of their libraries."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from optkit.errors import MissingDependency, OptkitError
from optkit.runtimes.cuda.device import PROVIDERS, open_device
from tests.gpu import fake_cuda, install


@pytest.fixture(params=PROVIDERS)
def device(request, machine, monkeypatch):
    if request.param == "cuda-bindings":
        install.bindings(monkeypatch, machine)
    elif request.param == "torch":
        monkeypatch.setitem(sys.modules, "torch", fake_cuda.torch(machine))
    else:
        monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
        monkeypatch.setitem(sys.modules, "pycuda.driver", fake_cuda.pycuda(machine))
    device = open_device(request.param)
    yield device
    device.close()


def test_bytes_go_in_and_come_out_in_the_order_of_the_stream(device):
    stream, address = device.stream(), device.allocate(64)
    there, back = device.pinned(64), device.pinned(64)
    there[...] = np.arange(64)
    device.copy_in(address, there, stream)
    device.copy_out(back, address, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(back, there)


def test_nothing_has_happened_before_the_wait(device):
    stream, address = device.stream(), device.allocate(8)
    host, back = device.pinned(8), device.pinned(8)
    host[...], back[...] = 1, 0
    device.copy_in(address, host, stream)
    device.copy_out(back, address, stream)
    assert not back.any()
    device.synchronize(stream)
    assert back.all()


def test_arrays_of_any_type_and_shape_travel(device):
    stream, address = device.stream(), device.allocate(48)
    host, back = (device.pinned(48).view(np.int64).reshape(2, 3) for _ in range(2))
    host[...] = [[1, -2, 3], [4, 5, -6]]
    device.copy_in(address, host, stream)
    device.copy_out(back, address, stream)
    device.synchronize(stream)
    np.testing.assert_array_equal(back, host)


def test_a_graph_records_without_running_and_replays_with_new_inputs(device, machine):
    stream, address = device.stream(), device.allocate(8)
    host, back = device.pinned(8), device.pinned(8)

    def work():
        device.copy_in(address, host, stream)
        device.copy_out(back, address, stream)

    back[...] = 0
    graph = device.capture(stream, work)
    device.synchronize(stream)
    assert not back.any()
    for value in (3, 9):
        host[...] = value
        device.launch(graph, stream)
        device.synchronize(stream)
        assert (back == value).all()


def test_memory_goes_back(device, machine):
    first, second = device.allocate(16), device.allocate(16)
    device.free(first)
    if "torch" not in type(device).__module__:  # torch's own allocator keeps it
        assert first not in machine.memory
        assert second in machine.memory
    device.close()
    device.close()


def test_events_measure(device):
    stream = device.stream()
    begin, end = device.record(stream), device.record(stream)
    assert device.elapsed_ms(begin, end) == 1.5


def test_an_older_pycuda_knows_no_graphs(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake_cuda.pycuda(machine, graphs=False))
    assert not open_device("pycuda").captures


def test_an_error_of_cuda_is_named(machine, monkeypatch):
    install.bindings(monkeypatch, machine)
    device = open_device("cuda-bindings")
    sys.modules["cuda.bindings.runtime"].cudaMalloc = lambda size: (2, None)
    with pytest.raises(OptkitError, match="cudaMalloc answered 2"):
        device.allocate(1)


def test_unknown_and_missing_providers(monkeypatch):
    with pytest.raises(OptkitError, match="Unknown memory provider"):
        open_device("cupy")
    monkeypatch.setattr("optkit.runtimes.cuda.device._is_there", lambda module: False)
    with pytest.raises(MissingDependency):
        open_device("pycuda")
