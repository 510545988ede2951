"""What GPU and driver there are, asked of the driver library alone.

TensorRT can crash the process where there is no driver, so this is asked first, through ctypes,
and without any package of NVIDIA's.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optkit.errors import OptkitError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR (cuda.h)
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE (cuda.h)
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_HINT = "A CPU runtime (onnxruntime, openvino, torch) serves without a GPU."


@dataclass(frozen=True)
class Gpu:
    """One device. `capability` is the compute capability, `cuda` the newest CUDA that the driver
    supports, `driver` its own version (None where the system does not tell), memory in bytes."""

    name: str
    capability: str
    memory_bytes: int
    cuda: str
    driver: str | None

    def record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def probe(
    index: int = 0,
    load: Callable[[str], ctypes.CDLL] = ctypes.CDLL,
    version_file: Path = Path("/proc/driver/nvidia/version"),
) -> Gpu:
    """The GPU number `index`. OptkitError where the library, the driver or the GPU is missing.

    Source: CUDA driver API, cuInit, cuDeviceGet and their neighbours.
    """
    try:
        driver = load(LIBRARY)
    except OSError as reason:
        raise OptkitError(
            f"Expected an NVIDIA driver, but its library {LIBRARY} is not on this machine.", hint=_HINT
        ) from reason
    code = driver.cuInit(0)
    count = ctypes.c_int(0)
    if code not in (0, _NO_DEVICE):
        raise OptkitError(
            f"Expected a working NVIDIA driver, but cuInit answered error {code}.",
            hint="Try nvidia-smi; a driver that was updated needs its kernel module reloaded, or a reboot.",
        )
    if code == 0:
        _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    if count.value <= index:
        raise OptkitError(
            f"Expected an NVIDIA GPU number {index}, but the driver shows {count.value}.",
            hint=f"Check CUDA_VISIBLE_DEVICES. {_HINT}",
        )
    return _describe(driver, index, version_file)


def _describe(driver: ctypes.CDLL, index: int, version_file: Path) -> Gpu:
    device, version, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _check(driver.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    _check(driver.cuDeviceGetName(name, 256, device), "cuDeviceGetName")
    _check(driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")
    _check(driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    parts = []
    for attribute in (_MAJOR, _MINOR):
        _check(driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute")
        parts.append(str(value.value))
    return Gpu(
        name=name.value.decode(),
        capability=".".join(parts),
        memory_bytes=memory.value,
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
        driver=_driver_version(version_file),
    )


def _driver_version(file: Path) -> str | None:
    try:
        match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return match.group(1) if match else None


def _check(code: int, call: str) -> None:
    if code:
        raise OptkitError(f"The NVIDIA driver's {call} answered error {code}.", hint="Try nvidia-smi.")
