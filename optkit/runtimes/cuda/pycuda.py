"""Device memory and streams through pycuda, in the context that the caller has made.

Where no context is current, the device's primary one is retained, so that others share it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from optkit.runtimes.cuda.device import Device, Handle

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING (cuda.h)


class PycudaDevice(Device):
    """`captures` depends on the pycuda that is installed: older ones know no graphs."""

    def __init__(self, index: int) -> None:
        self._cuda = import_module("pycuda.driver")
        self._cuda.init()
        self._context: Any = None
        if self._cuda.Context.get_current() is None:
            self._context = self._cuda.Device(index).retain_primary_context()
            self._context.push()
        self.captures = hasattr(self._cuda.Stream, "begin_capture")
        self._memory: dict[int, Any] = {}
        self._pinned: list[np.ndarray] = []
        self._streams: dict[int, Any] = {}

    def stream(self) -> int:
        stream = self._cuda.Stream(_NON_BLOCKING)
        self._streams[stream.handle] = stream
        return stream.handle

    def allocate(self, size: int) -> int:
        memory = self._cuda.mem_alloc(max(size, 1))
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        self._memory.pop(address).free()

    def pinned(self, size: int) -> np.ndarray:
        memory = self._cuda.pagelocked_empty(max(size, 1), np.uint8)
        self._pinned.append(memory)
        return memory[:size]

    def copy_in(self, address: int, host: np.ndarray, stream: int) -> None:
        self._cuda.memcpy_htod_async(address, host, self._streams[stream])

    def copy_out(self, host: np.ndarray, address: int, stream: int) -> None:
        self._cuda.memcpy_dtoh_async(host, address, self._streams[stream])

    def synchronize(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def capture(self, stream: int, work: Callable[[], None]) -> Handle:
        self._streams[stream].begin_capture()
        try:
            work()
        finally:
            graph = self._streams[stream].end_capture()
        return graph.instantiate()

    def launch(self, graph: Handle, stream: int) -> None:
        graph.launch(self._streams[stream])

    def record(self, stream: int) -> Handle:
        return self._cuda.Event().record(self._streams[stream])

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        end.synchronize()
        return float(begin.time_till(end))

    def close(self) -> None:
        for memory in self._memory.values():
            memory.free()
        self._memory, self._pinned, self._streams = {}, [], {}
        if self._context is not None:
            self._context.pop()
            self._context = None


def open_device(index: int = 0) -> PycudaDevice:
    return PycudaDevice(index)
