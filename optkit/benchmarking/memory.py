"""Resident memory of this process, in bytes."""

from __future__ import annotations

import re
import sys

from optkit.core.cpu import read


def resident() -> int:
    """What it holds now; its peak where the system does not tell (no /proc)."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """The most it has held."""
    # getrusage on Linux starts from the parent's peak, which a fork inherits; VmHWM does not.
    size = _status("VmHWM")
    if size is not None:
        return size
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _status(field: str) -> int | None:
    size = re.search(rf"^{field}:\s*(\d+) kB", read("/proc/self/status"), re.M)
    return int(size.group(1)) * 1024 if size else None
