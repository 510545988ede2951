"""Warm-up until a GPU's clock has settled, and what the GPU was doing afterwards. Read, never set."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from optkit.runtimes.cuda.state import process_memory_mib, read_state, settled

#: Answers between two readings, and the most seconds that are waited.
ANSWERS, MOST_SECONDS = 10, 5.0


def settle(
    work: Callable[[], object], read: Callable[[], dict[str, Any]], clock: Callable[[], float]
) -> None:
    """Work until the last readings of the SM clock agree within 2%, or `MOST_SECONDS` have passed.

    A GPU whose clock cannot be read has had `ANSWERS` more answers by then.
    """
    begun, clocks = clock(), []
    while True:
        for _ in range(ANSWERS):
            work()
        clocks.append(read().get("sm_mhz"))
        if settled(clocks) or clock() - begun > MOST_SECONDS:
            return


def state_of_process() -> dict[str, Any]:
    """Clocks, power and temperature of the GPU, and the memory that this process holds on it (MiB)."""
    return {**read_state(), "process_memory_mib": process_memory_mib(os.getpid())}
