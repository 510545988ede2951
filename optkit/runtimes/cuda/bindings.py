"""Device memory, streams and graphs through NVIDIA's own `cuda.bindings`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from optkit.errors import OptkitError
from optkit.runtimes.cuda.device import Device, Handle


class BindingsDevice(Device):
    """Calls of the CUDA runtime; every one answers (error, values...)."""

    def __init__(self, index: int) -> None:
        self._cuda = import_module("cuda.bindings.runtime")
        self._call("cudaSetDevice", index)
        self._streams: list[int] = []
        self._memory: set[int] = set()
        self._pinned: list[int] = []
        self._graphs: list[tuple[Handle, Handle]] = []

    def stream(self) -> int:
        handle = int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))
        self._streams.append(handle)
        return handle

    def allocate(self, size: int) -> int:
        address = int(self._call("cudaMalloc", max(size, 1)))
        self._memory.add(address)
        return address

    def free(self, address: int) -> None:
        self._memory.discard(address)
        self._call("cudaFree", address)

    def pinned(self, size: int) -> np.ndarray:
        address = int(self._call("cudaMallocHost", max(size, 1)))
        self._pinned.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(address))[:size]

    def copy_in(self, address: int, host: np.ndarray, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, host.ctypes.data, host.nbytes, kind, stream)

    def copy_out(self, host: np.ndarray, address: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.ctypes.data, address, host.nbytes, kind, stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, work: Callable[[], None]) -> Handle:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", stream)
        executable = self._call("cudaGraphInstantiate", graph, 0)
        self._graphs.append((executable, graph))
        return executable

    def launch(self, graph: Handle, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def record(self, stream: int) -> Handle:
        event = self._call("cudaEventCreate")
        self._call("cudaEventRecord", event, stream)
        return event

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        self._call("cudaEventSynchronize", end)
        taken = float(self._call("cudaEventElapsedTime", begin, end))
        for event in (begin, end):
            self._call("cudaEventDestroy", event)
        return taken

    def close(self) -> None:
        for executable, graph in self._graphs:
            self._call("cudaGraphExecDestroy", executable)
            self._call("cudaGraphDestroy", graph)
        for address in self._memory:
            self._call("cudaFree", address)
        for address in self._pinned:
            self._call("cudaFreeHost", address)
        for stream in self._streams:
            self._call("cudaStreamDestroy", stream)
        self._graphs, self._memory, self._pinned, self._streams = [], set(), [], []

    def _call(self, name: str, *arguments: object) -> Any:
        error, *values = getattr(self._cuda, name)(*arguments)
        if int(error):
            raise OptkitError(f"CUDA's {name} answered {error!s}.", hint="Check free memory with nvidia-smi.")
        return values[0] if values else None


def open_device(index: int = 0) -> BindingsDevice:
    return BindingsDevice(index)
