"""What machine this is, and what else it was doing while we measured."""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Instruction sets that decide how fast low precision is.
_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


def describe() -> dict[str, Any]:
    """CPU, cores, instruction sets, memory, governor, system and Python; what cannot be read is None."""
    cpuinfo = _read("/proc/cpuinfo")
    flags = set(re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.M)[:1] or [""])
    words = set(" ".join(flags).split())
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.M)
    return {
        "cpu": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "isa": [flag for flag in _FLAGS if flag in words],
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "virtual": "hypervisor" in words,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "mhz": _mhz(cpuinfo),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Cores this process may run on, which can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def has_vnni() -> bool:
    """Whether 8-bit products add up in 32 bits without saturating (AVX VNNI, AMX, ARM dot product)."""
    return bool(set(describe()["isa"]) & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


class NoiseLedger:
    """Doubts about a measurement: what the machine did besides it, between start and `doubts`.

    Limits: 2% of time stolen by the hypervisor, 15% of a core used by other processes, pressure
    on memory above 1%.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._cpu = _cpu_times()
        self._own = _own_seconds()

    def figures(self) -> dict[str, float]:
        """Shares since the start: `steal` of all CPU time, `others` in cores, `memory_pressure`."""
        seconds = max(time.monotonic() - self._begun, 1e-6)
        now = _cpu_times()
        ticks = {name: now[name] - self._cpu[name] for name in now}
        total = max(sum(ticks.values()), 1)
        hertz = os.sysconf("SC_CLK_TCK")
        busy = (ticks.get("user", 0) + ticks.get("nice", 0) + ticks.get("system", 0)) / hertz
        pressure = re.search(r"some avg10=([\d.]+)", _read("/proc/pressure/memory"))
        return {
            "steal": ticks.get("steal", 0) / total,
            "others": max(0.0, busy - (_own_seconds() - self._own)) / seconds,
            "memory_pressure": float(pressure.group(1)) / 100 if pressure else 0.0,
        }

    def doubts(self) -> list[str]:
        found = self.figures()
        doubts = []
        if found["steal"] > 0.02:
            doubts.append(f"The hypervisor took {found['steal']:.0%} of the CPU time (limit 2%).")
        if found["others"] > 0.15:
            doubts.append(f"Other processes used {found['others']:.2f} cores (limit 0.15).")
        if found["memory_pressure"] > 0.01:
            doubts.append(f"Processes waited for memory {found['memory_pressure']:.0%} of the time.")
        return doubts


def _cpu_times() -> dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    first = _read("/proc/stat").splitlines()[:1]
    return dict(zip(names, map(int, first[0].split()[1:9]))) if first else {}


def _own_seconds() -> float:
    """CPU seconds of this process and of every child process, running ones included."""
    total = sum(os.times()[:4])
    me = os.getpid()
    ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == me:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _mhz(cpuinfo: str) -> float | None:
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.M)
    return round(max(map(float, found)), 1) if found else None


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
