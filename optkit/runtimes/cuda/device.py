"""`Device`: memory, streams and CUDA graphs of one GPU, through whichever library is at hand.

Three providers with one contract: `cuda.bindings` (extra `tensorrt`), torch where it is loaded
already, and pycuda (extra `pycuda`) in the caller's own context. Addresses and streams are plain
integers, as TensorRT takes them.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module, util
from typing import Any, TypeAlias

import numpy as np

from optkit.errors import MissingDependency, OptkitError, did_you_mean

#: A CUDA graph or an event, as the library that gave it has it.
Handle: TypeAlias = Any

PROVIDERS = ("cuda-bindings", "torch", "pycuda")
_MODULES = {"cuda-bindings": "bindings", "torch": "torch", "pycuda": "pycuda"}


class Device(ABC):
    """Every call but `synchronize` and `elapsed_ms` returns before the GPU has done the work.

    `captures` says whether CUDA graphs are possible. All that was made here is freed by `close`.
    """

    captures: bool = True

    @abstractmethod
    def stream(self) -> int:
        """A new stream that does not wait for the default one."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """The address of `size` bytes of device memory, aligned to 256 at least."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give `allocate`'s memory back."""

    @abstractmethod
    def pinned(self, size: int) -> np.ndarray:
        """`size` bytes of page-locked host memory, uint8; it lives until `close`."""

    @abstractmethod
    def copy_in(self, address: int, host: np.ndarray, stream: int) -> None:
        """Copy `host` (contiguous, pinned) to `address`, in the order of `stream`."""

    @abstractmethod
    def copy_out(self, host: np.ndarray, address: int, stream: int) -> None:
        """Copy from `address` into `host` (contiguous, pinned), in the order of `stream`."""

    @abstractmethod
    def synchronize(self, stream: int) -> None:
        """Wait until all work of `stream` is done."""

    @abstractmethod
    def capture(self, stream: int, work: Callable[[], None]) -> Handle:
        """Record what `work` puts on `stream` as a CUDA graph instead of running it."""

    @abstractmethod
    def launch(self, graph: Handle, stream: int) -> None:
        """Run a captured graph on `stream`."""

    @abstractmethod
    def record(self, stream: int) -> Handle:
        """An event at this point of `stream`."""

    @abstractmethod
    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        """GPU milliseconds between two events, after waiting for the second."""

    @abstractmethod
    def close(self) -> None:
        """Free everything. Calling it twice is fine."""


def open_device(provider: str | None = None, index: int = 0) -> Device:
    """The device `index` through `provider`.

    Default: torch where the process has loaded it, else the first of PROVIDERS that is installed.
    Raises MissingDependency where there is none.
    """
    if provider is not None and provider not in PROVIDERS:
        raise OptkitError(f"Unknown memory provider {provider!r}.", hint=did_you_mean(provider, PROVIDERS))
    chosen = provider or _choose()
    module = {"cuda-bindings": "cuda.bindings", "torch": "torch", "pycuda": "pycuda"}[chosen]
    if not _is_there(module):
        extra = {"cuda-bindings": "tensorrt", "torch": "compress", "pycuda": "pycuda"}[chosen]
        raise MissingDependency.of(module, extra)
    return import_module(f"optkit.runtimes.cuda.{_MODULES[chosen]}").open_device(index)


def _choose() -> str:
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return "torch"
    for name, module in (("cuda-bindings", "cuda.bindings"), ("pycuda", "pycuda"), ("torch", "torch")):
        if _is_there(module):
            return name
    raise MissingDependency.of("cuda.bindings", "tensorrt")


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False
