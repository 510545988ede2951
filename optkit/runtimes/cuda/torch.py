"""Device memory, streams and graphs through torch: its caching allocator serves the engine too."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from optkit.runtimes.cuda.device import Device, Handle

if TYPE_CHECKING:
    import torch


class TorchDevice(Device):
    """An address stands for a uint8 tensor that is kept here."""

    def __init__(self, index: int) -> None:
        self._torch = import_module("torch")
        self._device = f"cuda:{index}"
        self._tensors: dict[int, torch.Tensor] = {}
        self._pinned: list[torch.Tensor] = []
        self._streams: dict[int, torch.cuda.Stream] = {}

    def stream(self) -> int:
        torch_stream = self._torch.cuda.Stream(device=self._device)
        self._streams[torch_stream.cuda_stream] = torch_stream
        return torch_stream.cuda_stream

    def allocate(self, size: int) -> int:
        tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, device=self._device)
        self._tensors[tensor.data_ptr()] = tensor
        return tensor.data_ptr()

    def free(self, address: int) -> None:
        del self._tensors[address]

    def pinned(self, size: int) -> np.ndarray:
        tensor = self._torch.empty(max(size, 1), dtype=self._torch.uint8, pin_memory=True)
        self._pinned.append(tensor)
        return tensor.numpy()[:size]

    def copy_in(self, address: int, host: np.ndarray, stream: int) -> None:
        self._copy(self._tensors[address][: host.nbytes], self._torch.from_numpy(_bytes(host)), stream)

    def copy_out(self, host: np.ndarray, address: int, stream: int) -> None:
        self._copy(self._torch.from_numpy(_bytes(host)), self._tensors[address][: host.nbytes], stream)

    def synchronize(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def capture(self, stream: int, work: Callable[[], None]) -> Handle:
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.stream(self._streams[stream]):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph

    def launch(self, graph: Handle, stream: int) -> None:
        with self._torch.cuda.stream(self._streams[stream]):
            graph.replay()

    def record(self, stream: int) -> Handle:
        event = self._torch.cuda.Event(enable_timing=True)
        event.record(self._streams[stream])
        return event

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end))

    def close(self) -> None:
        self._tensors, self._pinned, self._streams = {}, [], {}

    def _copy(self, target: torch.Tensor, source: torch.Tensor, stream: int) -> None:
        with self._torch.cuda.stream(self._streams[stream]):
            target.copy_(source, non_blocking=True)


def _bytes(host: np.ndarray) -> np.ndarray:
    return host.reshape(-1).view(np.uint8)


def open_device(index: int = 0) -> TorchDevice:
    return TorchDevice(index)
