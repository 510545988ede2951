from __future__ import annotations

import subprocess
import sys

from optkit.benchmarking import memory

HELD = """
from optkit.benchmarking import memory
before = memory.peak()
block = bytearray(50_000_000)
during = memory.resident()
del block
print(before, during, memory.resident(), memory.peak())
"""


def test_a_block_counts_while_it_is_held_and_in_the_peak_after_it():
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    before, during, after, peak = map(int, done.stdout.split())
    assert during >= before + 45_000_000
    assert peak >= during - 1_000_000
    assert after <= during


def test_without_proc_the_peak_is_asked_of_the_system(monkeypatch):
    monkeypatch.setattr("optkit.benchmarking.memory.read", lambda file: "")
    assert memory.resident() == memory.peak() > 1_000_000
