"""One execution context: a profile of an engine, its buffers, and its CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optkit.errors import OptkitError
from optkit.runtimes.cuda.device import Device

if TYPE_CHECKING:
    import tensorrt


Shapes = tuple[tuple[int, ...], ...]


@dataclass
class _Buffer:
    """Device and pinned host memory of one tensor; grows and never shrinks."""

    address: int = 0
    host: np.ndarray | None = None
    size: int = 0

    def view(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        assert self.host is not None
        return self.host[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)


class Execution:
    """Runs feeds inside profile number `profile` on `stream`. One call at a time.

    The order on the stream: inputs from pinned memory to the device, the engine, outputs back; the
    host waits once, at the end. `scratch` is (address, bytes) of the memory for activations; contexts
    on one stream may share it. With `graph` the second call captures all of it as one CUDA graph,
    which later calls launch whole; every call must then bring the same shapes. (TensorRT: a context
    must not change after it was captured, so each shape has a context of its own.)
    """

    def __init__(
        self,
        context: tensorrt.IExecutionContext,
        device: Device,
        stream: int,
        profile: int,
        inputs: Mapping[str, np.dtype],
        outputs: Mapping[str, np.dtype],
        scratch: tuple[int, int],
        graph: bool,
    ) -> None:
        if context is None:
            raise OptkitError("TensorRT could not make an execution context.", hint="Free some GPU memory.")
        self._context, self._device, self._stream = context, device, stream
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        self._buffers = {name: _Buffer() for name in (*inputs, *outputs)}
        self._bound: Shapes = ()
        self._out_shapes: dict[str, tuple[int, ...]] = {}
        self._wants_graph, self._calls, self._graph = graph and device.captures, 0, None
        context.set_device_memory(*scratch)
        if not context.set_optimization_profile_async(profile, stream):
            raise OptkitError(f"TensorRT refused optimization profile {profile}.")
        device.synchronize(stream)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, in memory of their own."""
        shapes: Shapes = tuple(feeds[name].shape for name in self._inputs)
        if shapes != self._bound:
            if self._graph is not None:
                raise OptkitError(f"This context was captured for {self._bound}, received {shapes}.")
            self._bind(feeds, shapes)
        for name, dtype in self._inputs.items():
            self._buffers[name].view(feeds[name].shape, dtype)[...] = feeds[name]
        # TensorRT may allocate and choose on the first run, which cannot be captured.
        if self._wants_graph and self._calls == 1:
            self._graph = self._device.capture(self._stream, self._enqueue)
        if self._graph is None:
            self._enqueue()
        else:
            self._device.launch(self._graph, self._stream)
        self._calls += 1
        self._device.synchronize(self._stream)
        return {n: self._buffers[n].view(self._out_shapes[n], t).copy() for n, t in self._outputs.items()}

    def close(self) -> None:
        """Give the buffers and the context back."""
        for buffer in self._buffers.values():
            if buffer.address:
                self._device.free(buffer.address)
        self._buffers, self._graph, self._context = {}, None, None

    def _bind(self, feeds: Mapping[str, np.ndarray], shapes: Shapes) -> None:
        """Tell the context the shapes and addresses; its answer gives the outputs' shapes."""
        for name, dtype in self._inputs.items():
            if not self._context.set_input_shape(name, tuple(feeds[name].shape)):
                raise OptkitError(
                    f"TensorRT refused the shape {feeds[name].shape} of {name!r}.",
                    hint="It lies outside of the engine's optimization profile.",
                )
            self._provide(name, feeds[name].size * dtype.itemsize)
        unknown = list(self._context.infer_shapes())
        if unknown:
            raise OptkitError(f"TensorRT cannot infer shapes; inputs without one: {', '.join(unknown)}.")
        for name, dtype in self._outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if any(d < 0 for d in shape):
                raise OptkitError(f"The output {name!r} has a shape that depends on its values: {shape}.")
            self._out_shapes[name] = shape
            self._provide(name, int(np.prod(shape)) * dtype.itemsize)
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise OptkitError(f"TensorRT refused the address of {name!r}.")
        self._bound = shapes

    def _provide(self, name: str, size: int) -> None:
        buffer = self._buffers[name]
        if size <= buffer.size:
            return
        if buffer.address:
            self._device.free(buffer.address)
        buffer.size = 1 << (size - 1).bit_length()
        buffer.address = self._device.allocate(buffer.size)
        buffer.host = self._device.pinned(buffer.size)

    def _enqueue(self) -> None:
        for name, shape in zip(self._inputs, self._bound):
            buffer = self._buffers[name]
            self._device.copy_in(buffer.address, buffer.view(shape, self._inputs[name]), self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise OptkitError("TensorRT's execute_async_v3 failed; its log says why.")
        for name, dtype in self._outputs.items():
            buffer = self._buffers[name]
            self._device.copy_out(buffer.view(self._out_shapes[name], dtype), buffer.address, self._stream)
