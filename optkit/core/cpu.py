"""What the processor says it can do."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def flags() -> frozenset[str]:
    """The instruction sets of the first processor; empty where the system does not tell."""
    lines = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    return frozenset(" ".join(lines[:1]).split())


def model() -> str:
    """Its name, such as AMD EPYC 9454 48-Core Processor."""
    match = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    return match.group(1) if match else platform.processor() or platform.machine()


def has_vnni() -> bool:
    """Whether 8-bit products add up in 32 bits without saturating (AVX VNNI, AMX, ARM dot product).

    True where the system does not tell what the processor can do.
    """
    features = flags()
    return not features or bool(features & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers by itself."""
    return bool(flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def read(file: str) -> str:
    """A file of the system as text; "" where it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
