"""`core`: the one OpenVINO core of a process, which is never freed; and where its bf16 is trusted.

Where the CPU asks for a larger signal stack than usual (AMX), OpenVINO's CPU plugin lends one to the thread
that first loads a model, and frees it with itself. Freed in another thread, or out of order (of two cores the
older one first), it leaves the thread with a stack that is gone: the next signal handled there is a SIGSEGV.
A plugin lives as long as its core, so there is one core, and no thread has to close what it opened.

For every shape that it meets OpenVINO makes kernels, and keeps them twice: in each model, 5,000 of a kind,
and in oneDNN, 1,024 of all models. On MiniLM a shape takes 3 to 5 MB, so that requests of mixed lengths fill
gigabytes. So models keep `KERNELS`, and oneDNN none unless the environment says otherwise.

Source: `SigAltStackSetup` in OpenVINO's src/plugins/intel_cpu/src/plugin.cpp.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from optkit.core import cpu

if TYPE_CHECKING:
    import openvino


#: Kernels of a kind that a model keeps, the last used ones: those of some hundred shapes.
KERNELS = 1000
_PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_LOCK = threading.Lock()
_CORES: list[openvino.Core] = []


def has_bf16() -> bool:
    """Whether OpenVINO has bf16 products on this CPU, right or wrong."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def why_not_bf16(proven_on: Collection[object]) -> str:
    """Why bf16 is not trusted on this CPU; "" where it is.

    `proven_on` are the names of CPUs on which it was compared with f32 (`optkit.passes.bf16_probe`).
    """
    if not has_bf16():
        return "it has no bf16 products"
    # Where the system does not tell (no /proc/cpuinfo), it was not proven either.
    if "amx_bf16" in cpu.flags() or cpu.model() in proven_on:
        return ""
    return "bf16 was not compared with f32 there, and OpenVINO has been wrong on CPUs without AMX"


def core() -> openvino.Core:
    """An `openvino.Core`. It reads files and maps none: one cut short while it is mapped is a SIGBUS."""
    with _LOCK:
        if not _CORES:
            import openvino

            if _PRIMITIVES not in os.environ:
                os.putenv(_PRIMITIVES, "0")  # not os.environ, which is what our child processes are given
            instance = openvino.Core()
            instance.set_property({"ENABLE_MMAP": False})
            instance.set_property("CPU", {"CPU_RUNTIME_CACHE_CAPACITY": KERNELS})
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(instance))  # nor at the end of the interpreter
            _CORES.append(instance)
        return _CORES[0]
