"""What machine this is."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from optkit.core import cpu
from optkit.core.cpu import read
from optkit.errors import RecipeError

#: Instruction sets that decide how fast low precision is.
_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


def describe(threads: int | None = None) -> dict[str, Any]:
    """The machine that the numbers come from; what cannot be read is None.

    `cores` are those this process may run on, `cores_total` those the system has; `virtual` says
    that a hypervisor was seen; `threads` is what the caller measures with.
    """
    words = cpu.flags()
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), re.M)
    policy = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_"
    return {
        "cpu": cpu.model(),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "isa": [flag for flag in _FLAGS if flag in words],
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "virtual": "hypervisor" in words,
        "hypervisor": _hypervisor() if "hypervisor" in words else None,
        "governor": read(policy + "governor").strip() or None,
        "frequency_driver": read(policy + "driver").strip() or None,
        "mhz": megahertz(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
    }


def megahertz() -> float | None:
    """The clock of the fastest core at this moment."""
    clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", read("/proc/cpuinfo"), re.M)
    return round(max(map(float, clocks)), 1) if clocks else None


def standing_doubts(machine: dict[str, Any]) -> list[str]:
    """What makes times on this machine doubtful, however quiet it is; `machine` as `describe` gives it."""
    driver = machine["frequency_driver"] or ""
    # On Intel's and AMD's own drivers "powersave" is the usual name for a clock that follows the load.
    if machine["governor"] == "powersave" and not driver.startswith(("intel_pstate", "amd-pstate")):
        return ["The CPU governor is powersave, which keeps the clock low: expect other times in production."]
    return []


def usable() -> set[int]:
    """The cores this process may run on, which can be fewer than the machine has."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:
        return set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many cores' worth of time this process has: fewer than it may run on under a limit."""
    cores, limit = len(usable()), cpu_limit()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def cpu_limit() -> float | None:
    """The CPUs' worth of time that this process's control group may use; None without a limit.

    Inside of a container the group's own files lie at the root. Source: the kernel's documentation of
    cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`).
    """
    quota, _, period = read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not period:
        quota, period = (read(f"/sys/fs/cgroup/cpu/cpu.cfs_{x}_us").strip() for x in ("quota", "period"))
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # "max", "-1" or no such file
    return int(quota) / int(period)


def thread_count(asked: int | None, among: Collection[int] | None = None) -> int:
    """`asked`, or one thread per usable core; `among` names the only ones to run on, where not all are.

    Raises RecipeError for more: threads would wait for each other.
    """
    cores = usable_cores() if among is None else min(usable_cores(), len(among))
    if asked is not None and asked > cores:
        raise RecipeError(
            f"Expected at most {cores} threads, one per usable core, received {asked}.",
            hint="Give fewer --threads." if among is None else "Give fewer --threads, or more --cores.",
        )
    return asked or cores


def nodes_of(cores: set[int]) -> set[int]:
    """The NUMA nodes that `cores` lie on; empty where the system does not tell."""
    nodes = set()
    for node in Path("/sys/devices/system/node").glob("node[0-9]*"):
        if cores & set(core_numbers(read(str(node / "cpulist")).strip() or "")):
            nodes.add(int(node.name.removeprefix("node")))
    return nodes


def core_numbers(text: str) -> list[int]:
    """The cores that a list as Linux and taskset write it names; ValueError for anything else.

    >>> core_numbers("0,2-4")
    [0, 2, 3, 4]
    """
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.strip().partition("-")
        if max(len(first), len(last)) > 6:
            raise ValueError("no machine has so many cores")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def usable_among(cores: str | Sequence[int]) -> tuple[int, ...]:
    """`cores`, a list or text such as "0,2-3", each once. Raises RecipeError for any but this process's."""
    try:
        numbers = core_numbers(cores) if isinstance(cores, str) else list(cores)
    except ValueError:
        numbers = []
    if not numbers or not set(numbers) <= usable():
        raise RecipeError(
            f"Expected cores of this machine such as 0,1 or 0-3, received {cores!r}.",
            hint=f"This process may use {', '.join(map(str, sorted(usable())))}.",
        )
    return tuple(dict.fromkeys(numbers))


def _hypervisor() -> str | None:
    """The maker of the virtual machine as the firmware or the kernel names it."""
    for file in ("/sys/class/dmi/id/sys_vendor", "/sys/hypervisor/type"):
        if name := read(file).strip():
            return name
    return None
