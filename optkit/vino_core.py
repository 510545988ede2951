"""`core`: the one OpenVINO core of a process, which is never freed.

Where the CPU asks for a larger signal stack than usual (AMX), OpenVINO's CPU plugin lends one to the thread
that first loads a model, and frees it with itself. Freed in another thread, or out of order (of two cores the
older one first), it leaves the thread with a stack that is gone: the next signal handled there is a SIGSEGV.
A plugin lives as long as its core, so there is one core, and no thread has to close what it opened.

Source: `SigAltStackSetup` in OpenVINO's src/plugins/intel_cpu/src/plugin.cpp.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

_LOCK = threading.Lock()
_CORES: list[Any] = []


def core() -> Any:
    """An `openvino.Core`. It reads files and maps none: one cut short while it is mapped is a SIGBUS."""
    with _LOCK:
        if not _CORES:
            import openvino

            made = openvino.Core()
            made.set_property({"ENABLE_MMAP": False})
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))  # nor at the end of the interpreter
            _CORES.append(made)
        return _CORES[0]
