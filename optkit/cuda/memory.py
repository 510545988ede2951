"""How much GPU memory a process holds, asked of NVIDIA's management library through ctypes."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_NOT_KNOWN = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE, for a process of another container


class _Process(ctypes.Structure):
    """nvmlProcessInfo_t (nvml.h)."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


def held_bytes(pid: int | None = None, load: Callable[[str], Any] = ctypes.CDLL) -> int | None:
    """Memory of all GPUs that process `pid` (None: this one) holds, in bytes.

    What the allocators of torch, ONNX Runtime and TensorRT took they keep, so that after a run this is
    its peak. None where there is no driver, where it does not tell (some containers show processes
    under other numbers), or where the process has nothing on a GPU.

    Source: NVML API reference, nvmlDeviceGetComputeRunningProcesses_v3.
    """
    try:
        library = load(LIBRARY)
        started = library.nvmlInit_v2() == 0
    except (OSError, AttributeError):
        return None
    if not started:
        return None
    try:
        return _sum(library, os.getpid() if pid is None else pid)
    except AttributeError:  # an older driver
        return None
    finally:
        library.nvmlShutdown()


def _sum(library: Any, pid: int) -> int | None:
    count, found = ctypes.c_uint(0), []
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return None
    for index in range(count.value):
        device, size = ctypes.c_void_p(), ctypes.c_uint(1024)
        processes = (_Process * size.value)()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
            continue
        if library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(size), processes):
            continue
        found += [p.used for p in processes[: size.value] if p.pid == pid and p.used != _NOT_KNOWN]
    return sum(found) if found else None
