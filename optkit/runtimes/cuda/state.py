"""Clocks, power and memory of a GPU as nvidia-smi reads them; nothing is ever set."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

#: nvidia-smi's field → our name. Units: MHz, W, MiB, degrees Celsius, percent.
FIELDS = {
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "clocks.max.sm": "sm_max_mhz",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "memory.used": "memory_used_mib",
    "temperature.gpu": "temperature_c",
    "utilization.gpu": "utilization_percent",
}


def read_state(index: int = 0, run: Callable[..., Any] = subprocess.run) -> dict[str, float | None]:
    """One reading; a value that the GPU does not tell is None, and all are without nvidia-smi."""
    command = [
        "nvidia-smi",
        f"--id={index}",
        f"--query-gpu={','.join(FIELDS)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return dict.fromkeys(FIELDS.values())
    values = [_number(part) for part in done.stdout.splitlines()[0].split(",")] if done.stdout else []
    values += [None] * (len(FIELDS) - len(values))
    return dict(zip(FIELDS.values(), values))


def process_memory_mib(pid: int, run: Callable[..., Any] = subprocess.run) -> float | None:
    """Device memory that process `pid` holds; None where the driver does not tell (as in most containers)."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        done = run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    for line in done.stdout.splitlines():
        owner, _, used = line.partition(",")
        if owner.strip() == str(pid):
            return _number(used)
    return None


def settled(megahertz: list[float | None], share: float = 0.02, last: int = 3) -> bool:
    """Whether the last readings of a clock lie within `share` of each other; True where none can be read.

    >>> settled([345.0, 1700.0, 1980.0, 1980.0, 1975.0]), settled([345.0, 1700.0, 1980.0])
    (True, False)
    """
    known = [m for m in megahertz if m is not None]
    if not known:
        return True
    recent = known[-last:]
    return len(recent) == last and max(recent) - min(recent) <= share * max(recent)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
