"""What machine this is, and what else it was doing while we measured."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    cpuinfo = _read("/proc/cpuinfo")
    words = set(" ".join(re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.M)[:1]).split())
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.M)
    frequencies = [float(x) for x in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.M)]
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return {
        "cpu": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "isa": [flag for flag in _FLAGS if flag in words],
        "memory_bytes": int(memory.group(1)) * 1024 if memory else None,
        "virtual": "hypervisor" in words,
        "hypervisor": _hypervisor() if "hypervisor" in words else None,
        "governor": governor or None,
        "mhz": round(max(frequencies), 1) if frequencies else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
    }


def usable() -> set[int]:
    """The cores this process may run on, which can be fewer than the machine has."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:
        return set(range(os.cpu_count() or 1))


def usable_cores() -> int:
    return len(usable())


def has_vnni() -> bool:
    """Whether 8-bit products add up in 32 bits without saturating (AVX VNNI, AMX, ARM dot product)."""
    return bool(set(describe()["isa"]) & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers by itself."""
    return bool(set(describe()["isa"]) & {"avx512_bf16", "amx_bf16", "bf16"})


def nodes_of(cores: set[int]) -> set[int]:
    """The NUMA nodes that `cores` lie on; empty where the system does not tell."""
    found = set()
    for node in Path("/sys/devices/system/node").glob("node[0-9]*"):
        if cores & set(core_numbers(_read(str(node / "cpulist")).strip() or "")):
            found.add(int(node.name.removeprefix("node")))
    return found


def core_numbers(text: str) -> list[int]:
    """The cores that a list as Linux and taskset write it names; ValueError for anything else.

    >>> core_numbers("0,2-4")
    [0, 2, 3, 4]
    """
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@dataclass(frozen=True)
class Snapshot:
    """Counters of the system at one moment; what cannot be read stays 0 or None.

    `ticks` are seconds of CPU time since boot by kind, all cores together; `own_cpu_seconds` is
    what this process and all below it have used; `memory_stalled_seconds` is how long some process
    waited for memory (/proc/pressure, since boot).
    """

    seconds: float
    ticks: dict[str, float] = field(default_factory=dict)
    own_cpu_seconds: float = 0.0
    context_switches: int = 0
    load: float | None = None
    memory_stalled_seconds: float | None = None

    @classmethod
    def take(cls) -> Snapshot:
        stat = _read("/proc/stat")
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
        first = stat.splitlines()[0].split()[1:9] if stat else []
        hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        switches = re.search(r"^ctxt (\d+)", stat, re.M)
        stalled = re.search(r"^some .*total=(\d+)", _read("/proc/pressure/memory"), re.M)
        return cls(
            seconds=time.monotonic(),
            ticks={name: int(value) / hertz for name, value in zip(names, first)},
            own_cpu_seconds=_own_cpu_seconds(hertz),
            context_switches=int(switches.group(1)) if switches else 0,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            memory_stalled_seconds=int(stalled.group(1)) / 1e6 if stalled else None,
        )


@dataclass(frozen=True)
class Limits:
    """What a measurement bears: above these its figures come with a doubt.

    `steal` is the share of all CPU time that the hypervisor gave to others, `others_cores` what
    other processes used, in cores; `memory_stalled` the share of time that some process waited for
    memory; `context_switches` are per second, over the whole system.
    """

    steal: float = 0.02
    others_cores: float = 0.15
    memory_stalled: float = 0.01
    context_switches: float = 20_000


class NoiseLedger:
    """What the machine did beside a measurement, from when this is made until it is asked.

    >>> ledger = NoiseLedger()
    >>> sorted(ledger.figures())
    ['context_switches', 'load', 'memory_stalled', 'others_cores', 'steal']
    """

    def __init__(self, limits: Limits | None = None, take: Callable[[], Snapshot] = Snapshot.take) -> None:
        self._limits, self._take = limits or Limits(), take
        self._before = take()

    def figures(self) -> dict[str, float | None]:
        """What `Limits` bounds, since the start; `load` is the 1-minute load average now."""
        before, after = self._before, self._take()
        seconds = max(after.seconds - before.seconds, 1e-6)
        ticks = {name: after.ticks[name] - before.ticks.get(name, 0.0) for name in after.ticks}
        busy = sum(ticks.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        own = after.own_cpu_seconds - before.own_cpu_seconds
        stalled = None
        if after.memory_stalled_seconds is not None and before.memory_stalled_seconds is not None:
            stalled = (after.memory_stalled_seconds - before.memory_stalled_seconds) / seconds
        return {
            "steal": ticks.get("steal", 0.0) / max(sum(ticks.values()), 1e-6),
            "others_cores": max(0.0, busy - own) / seconds,
            "context_switches": (after.context_switches - before.context_switches) / seconds,
            "memory_stalled": stalled,
            "load": after.load,
        }

    def doubts(self) -> list[str]:
        """One sentence for each limit that was exceeded; [] for a quiet machine."""
        found, limits = self.figures(), self._limits
        sentences = {
            "steal": "The hypervisor took {0:.1%} of the CPU time (limit {1:.0%}).",
            "others_cores": "Other processes used {0:.2f} cores (limit {1:.2f}).",
            "memory_stalled": "Processes waited for memory {0:.1%} of the time (limit {1:.0%}).",
            "context_switches": "The system switched tasks {0:,.0f} times a second (limit {1:,.0f}).",
        }
        return [
            sentence.format(value, getattr(limits, name))
            for name, sentence in sentences.items()
            if (value := found[name]) is not None and value > getattr(limits, name)
        ]


def _own_cpu_seconds(hertz: float) -> float:
    """CPU seconds of this process and all below it, living and ended ones."""
    processes: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # a process may end while we look
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            # proc(5): parent, then user and system time of itself and of the children it waited for.
            processes[int(folder.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / hertz)
    if os.getpid() not in processes:
        return sum(os.times()[:4])
    mine, total = {os.getpid()}, 0.0
    while mine:
        total += sum(processes[pid][1] for pid in mine)
        mine = {pid for pid, (parent, _) in processes.items() if parent in mine}
    return total


def _hypervisor() -> str | None:
    """The maker of the virtual machine as the firmware or the kernel names it."""
    for file in ("/sys/class/dmi/id/sys_vendor", "/sys/hypervisor/type"):
        if name := _read(file).strip():
            return name
    return None


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
