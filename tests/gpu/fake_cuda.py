"""A GPU without a GPU: memory is host memory, streams are queues that run when waited for.

Work that was not waited for has not happened: code that forgets to synchronize gets old bytes.
"""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable

import numpy as np


class Machine:
    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.launches = 0
        self.captures = 0

    def allocate(self, size: int) -> int:
        block = np.full(size, 0xAB, dtype=np.uint8)  # not zero: what is never written shows
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        del self.memory[address]

    def lock(self, size: int) -> np.ndarray:
        block = np.full(size, 0xCD, dtype=np.uint8)
        self.pinned[block.ctypes.data] = block
        return block

    def stream(self) -> int:
        handle = 1000 + len(self.queues)
        self.queues[handle] = []
        return handle

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        (self.capturing if stream in self.capturing else self.queues)[stream].append(work)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        for address in (target, source):
            assert any(
                a <= address and address + size <= a + len(b)
                for a, b in (*self.memory.items(), *self.pinned.items())
            ), "a copy from or to memory that is neither device nor pinned memory"
        self.enqueue(stream, lambda: ctypes.memmove(target, source, size))

    def synchronize(self, stream: int) -> None:
        assert stream not in self.capturing, "a wait inside of a capture breaks it"
        work, self.queues[stream] = self.queues[stream], []
        for step in work:
            step()

    def begin(self, stream: int) -> None:
        assert stream not in self.capturing
        self.capturing[stream] = []

    def end(self, stream: int) -> list[Callable[[], None]]:
        self.captures += 1
        return self.capturing.pop(stream)

    def launch(self, graph: list[Callable[[], None]], stream: int) -> None:
        self.launches += 1
        self.queues[stream] += graph


def driver(devices: int = 1, init: int = 0, name: bytes = b"Fake H200", capability=(9, 0)):
    """libcuda.so.1 as `optkit.runtimes.cuda.probe` calls it."""
    library = types.SimpleNamespace()

    def put(value):
        def call(reference, *_):
            reference._obj.value = value
            return 0

        return call

    def get_name(buffer, size, device):
        buffer.value = name
        return 0

    def attribute(reference, which, device):
        reference._obj.value = capability[{75: 0, 76: 1}[which]]
        return 0

    library.cuInit = lambda flags: init
    library.cuDeviceGetCount = put(devices)
    library.cuDeviceGet = put(0)
    library.cuDeviceGetName = get_name
    library.cuDeviceTotalMem_v2 = put(141 * 2**30)
    library.cuDriverGetVersion = put(13010)
    library.cuDeviceGetAttribute = attribute
    return library


def bindings(machine: Machine) -> types.ModuleType:
    """`cuda.bindings.runtime`: every call gives a tuple that begins with the error."""
    module = types.ModuleType("cuda.bindings.runtime")
    module.cudaStreamNonBlocking = 1
    module.cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    module.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def call(work):
        def answer(*arguments):
            value = work(*arguments)
            return (0,) if value is None else (0, value)

        return answer

    def host(size):
        return machine.lock(size).ctypes.data

    module.cudaSetDevice = call(lambda index: None)
    module.cudaStreamCreateWithFlags = call(lambda flags: machine.stream())
    module.cudaStreamDestroy = call(lambda stream: machine.queues.pop(stream) and None)
    module.cudaMalloc = call(machine.allocate)
    module.cudaFree = call(machine.free)
    module.cudaMallocHost = call(host)
    module.cudaFreeHost = call(lambda address: machine.pinned.pop(address) is None or None)
    module.cudaMemcpyAsync = call(lambda to, of, size, kind, stream: machine.copy(to, of, size, stream))
    module.cudaStreamSynchronize = call(machine.synchronize)
    module.cudaStreamBeginCapture = call(lambda stream, mode: machine.begin(stream))
    module.cudaStreamEndCapture = call(machine.end)
    module.cudaGraphInstantiate = call(lambda graph, flags: graph)
    module.cudaGraphLaunch = call(machine.launch)
    module.cudaGraphExecDestroy = call(lambda graph: None)
    module.cudaGraphDestroy = call(lambda graph: None)
    module.cudaEventCreate = call(lambda: object())
    module.cudaEventRecord = call(lambda event, stream: None)
    module.cudaEventSynchronize = call(lambda event: None)
    module.cudaEventElapsedTime = call(lambda begin, end: 1.5)
    module.cudaEventDestroy = call(lambda event: None)
    return module


def torch(machine: Machine) -> types.ModuleType:
    """The part of torch that `optkit.runtimes.cuda.torch` calls."""
    module = types.ModuleType("torch")
    module.uint8 = "uint8"
    current: list[int] = []

    class Tensor:
        def __init__(self, block):
            self.block = block

        def data_ptr(self):
            return self.block.ctypes.data

        def numpy(self):
            return self.block

        def __getitem__(self, where):
            return Tensor(self.block[where])

        def copy_(self, other, non_blocking):
            assert non_blocking
            assert self.block.nbytes == other.block.nbytes
            machine.copy(self.data_ptr(), other.data_ptr(), self.block.nbytes, current[-1])

    def empty(size, dtype, device=None, pin_memory=False):
        if pin_memory:
            return Tensor(machine.lock(size))
        assert device.startswith("cuda")
        return Tensor(machine.memory[machine.allocate(size)])

    class Stream:
        def __init__(self, device):
            self.cuda_stream = machine.stream()

        def synchronize(self):
            machine.synchronize(self.cuda_stream)

    class Context:
        def __init__(self, stream):
            self.handle = stream.cuda_stream

        def __enter__(self):
            current.append(self.handle)

        def __exit__(self, *_):
            current.pop()

    class CUDAGraph:
        def capture_begin(self, capture_error_mode):
            machine.begin(current[-1])

        def capture_end(self):
            self.steps = machine.end(current[-1])

        def replay(self):
            machine.launch(self.steps, current[-1])

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            pass

        def synchronize(self):
            pass

        def elapsed_time(self, other):
            return 1.5

    module.empty, module.from_numpy = empty, Tensor
    module.cuda = types.SimpleNamespace(
        Stream=Stream, stream=Context, CUDAGraph=CUDAGraph, Event=Event, is_available=lambda: True
    )
    return module


def pycuda(machine: Machine, graphs: bool = True) -> types.ModuleType:
    """The part of `pycuda.driver` that `optkit.runtimes.cuda.pycuda` calls; a context is current."""
    module = types.ModuleType("pycuda.driver")

    class Allocation(int):
        def free(self):
            machine.free(int(self))

    class Graph:
        def __init__(self, steps):
            self.steps = steps

        def instantiate(self):
            return self

        def launch(self, stream):
            machine.launch(self.steps, stream.handle)

    class Stream:
        def __init__(self, flags):
            self.handle = machine.stream()

        def synchronize(self):
            machine.synchronize(self.handle)

    if graphs:
        Stream.begin_capture = lambda self: machine.begin(self.handle)
        Stream.end_capture = lambda self: Graph(machine.end(self.handle))

    class Event:
        def record(self, stream):
            return self

        def synchronize(self):
            pass

        def time_till(self, other):
            return 1.5

    module.init = lambda: None
    module.Context = types.SimpleNamespace(get_current=lambda: object())
    module.Stream, module.Event = Stream, Event
    module.mem_alloc = lambda size: Allocation(machine.allocate(size))
    module.pagelocked_empty = lambda size, dtype: machine.lock(size)
    module.memcpy_htod_async = lambda to, host, stream: machine.copy(
        int(to), host.ctypes.data, host.nbytes, stream.handle
    )
    module.memcpy_dtoh_async = lambda host, of, stream: machine.copy(
        host.ctypes.data, int(of), host.nbytes, stream.handle
    )
    return module
