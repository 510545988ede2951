"""The noise ledger: what else the machine was doing while we measured."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from optkit.benchmarking.environment import megahertz
from optkit.core.cpu import read

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Snapshot:
    """Counters of the system at one moment; what cannot be read stays 0 or None.

    `ticks` are seconds of CPU time since boot by kind, all cores together; `own_cpu_seconds` is
    what this process and all below it have used; `memory_stalled_seconds` is how long some process
    waited for memory (/proc/pressure, since boot); `mhz` the clock of the fastest core.
    """

    seconds: float
    ticks: dict[str, float] = field(default_factory=dict)
    own_cpu_seconds: float = 0.0
    context_switches: int = 0
    load: float | None = None
    memory_stalled_seconds: float | None = None
    mhz: float | None = None

    @classmethod
    def take(cls) -> Snapshot:
        stat = read("/proc/stat")
        names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
        first = stat.splitlines()[0].split()[1:9] if stat else []
        hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        switches = re.search(r"^ctxt (\d+)", stat, re.M)
        stalled = re.search(r"^some .*total=(\d+)", read("/proc/pressure/memory"), re.M)
        return cls(
            seconds=time.monotonic(),
            ticks={name: int(value) / hertz for name, value in zip(names, first)},
            own_cpu_seconds=_own_cpu_seconds(hertz),
            context_switches=int(switches.group(1)) if switches else 0,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            memory_stalled_seconds=int(stalled.group(1)) / 1e6 if stalled else None,
            mhz=megahertz(),
        )


@dataclass(frozen=True)
class Limits:
    """What a measurement bears: above these its figures come with a doubt.

    `steal` is the share of all CPU time that the hypervisor gave to others, `others_cores` what
    other processes used, in cores; `memory_stalled` the share of time that some process waited for
    memory; `context_switches` are per second, over the whole system; `clock_drop` is how much lower
    the clock was at the end than at the start, as a share: heat, or a power limit.
    """

    steal: float = 0.02
    others_cores: float = 0.15
    memory_stalled: float = 0.01
    context_switches: float = 20_000
    clock_drop: float = 0.25


class NoiseLedger:
    """What the machine did beside a measurement, from when this is made until it is asked.

    >>> sorted(NoiseLedger().figures())
    ['clock_drop', 'context_switches', 'load', 'memory_stalled', 'mhz', 'others_cores', 'steal']
    """

    def __init__(self, limits: Limits | None = None, take: Callable[[], Snapshot] = Snapshot.take) -> None:
        self._limits, self._take = limits or Limits(), take
        self._before = take()

    def figures(self) -> Figures:
        """What `Limits` bounds, since the start; `load` (average of 1 minute) and `mhz` are those of now."""
        before, after = self._before, self._take()
        seconds = max(after.seconds - before.seconds, 1e-6)
        ticks = {name: after.ticks[name] - before.ticks.get(name, 0.0) for name in after.ticks}
        busy = sum(ticks.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        own_seconds = after.own_cpu_seconds - before.own_cpu_seconds
        stalled = None
        if after.memory_stalled_seconds is not None and before.memory_stalled_seconds is not None:
            stalled = (after.memory_stalled_seconds - before.memory_stalled_seconds) / seconds
        return {
            "steal": ticks.get("steal", 0.0) / max(sum(ticks.values()), 1e-6),
            "others_cores": max(0.0, busy - own_seconds) / seconds,
            "context_switches": (after.context_switches - before.context_switches) / seconds,
            "memory_stalled": stalled,
            "clock_drop": 1 - after.mhz / before.mhz if before.mhz and after.mhz else None,
            "load": after.load,
            "mhz": after.mhz,
        }

    def doubts(self) -> list[str]:
        """One sentence for each limit that was exceeded; [] for a quiet machine."""
        figures, limits = self.figures(), self._limits
        sentences = {
            "steal": "The hypervisor took {0:.1%} of the CPU time (limit {1:.0%}).",
            "others_cores": "Other processes used {0:.2f} cores (limit {1:.2f}).",
            "memory_stalled": "Processes waited for memory {0:.1%} of the time (limit {1:.0%}).",
            "clock_drop": "The CPU clock fell by {0:.0%} meanwhile (limit {1:.0%}).",
            "context_switches": "The system switched tasks {0:,.0f} times a second (limit {1:,.0f}).",
        }
        return [
            sentence.format(value, getattr(limits, name))
            for name, sentence in sentences.items()
            if (value := figures[name]) is not None and value > getattr(limits, name)
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
    generation, total = {os.getpid()}, 0.0
    while generation:
        total += sum(processes[pid][1] for pid in generation)
        generation = {pid for pid, (parent, _) in processes.items() if parent in generation}
    return total


def worst(figures: Iterable[Figures]) -> Figures:
    """The greatest of each figure over several stretches; of `mhz` the least.

    >>> worst([{"steal": 0.1, "mhz": 3000.0}, {"steal": None, "mhz": 2000.0}])
    {'steal': 0.1, 'mhz': 2000.0}
    """
    result: Figures = {}
    for stretch in figures:
        for name, value in stretch.items():
            before = result.get(name)
            known = [x for x in (before, value) if x is not None]
            pick = min if name == "mhz" else max
            result[name] = pick(known) if known else None
    return result
