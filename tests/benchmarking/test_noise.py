from __future__ import annotations

import os
from dataclasses import replace

import pytest

from optkit.benchmarking.noise import Limits, NoiseLedger, Snapshot, worst

QUIET = Snapshot(
    seconds=100.0,
    ticks={
        "user": 50.0,
        "nice": 0.0,
        "system": 5.0,
        "idle": 140.0,
        "iowait": 0.0,
        "irq": 0.0,
        "softirq": 0.0,
        "steal": 1.0,
    },
    own_cpu_seconds=10.0,
    context_switches=1_000_000,
    load=0.5,
    memory_stalled_seconds=2.0,
    mhz=3000.0,
)


def ledger_of(limits=None, **changes) -> NoiseLedger:
    """A ledger over 10 seconds of two cores, in which this process used one of them."""
    ticks = {**QUIET.ticks, "user": 60.0, "idle": 150.0, **changes.pop("ticks", {})}
    after = replace(QUIET, seconds=110.0, own_cpu_seconds=20.0, context_switches=1_010_000, ticks=ticks)
    moments = iter([QUIET, *[replace(after, **changes)] * 3])
    return NoiseLedger(limits, take=lambda: next(moments))


def test_a_quiet_machine_raises_no_doubt():
    ledger = ledger_of()
    assert ledger.figures() == {
        "steal": 0.0,
        "others_cores": 0.0,
        "context_switches": 1000.0,
        "memory_stalled": 0.0,
        "clock_drop": 0.0,
        "load": 0.5,
        "mhz": 3000.0,
    }
    assert ledger.doubts() == []


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"ticks": {"steal": 2.0}}, "The hypervisor took 4.8% of the CPU time (limit 2%)."),
        ({"own_cpu_seconds": 15.0}, "Other processes used 0.50 cores (limit 0.15)."),
        ({"memory_stalled_seconds": 2.5}, "Processes waited for memory 5.0% of the time (limit 1%)."),
        ({"mhz": 1500.0}, "The CPU clock fell by 50% meanwhile (limit 25%)."),
        ({"context_switches": 1_500_000}, "The system switched tasks 50,000 times a second (limit 20,000)."),
    ],
)
def test_each_limit_has_its_doubt(changes, doubt):
    assert ledger_of(**changes).doubts() == [doubt]


def test_limits_can_be_wider():
    assert ledger_of(Limits(others_cores=1.0), own_cpu_seconds=15.0).doubts() == []


def test_what_cannot_be_read_raises_no_doubt():
    nothing = iter([Snapshot(0.0), *[Snapshot(1.0)] * 2])
    ledger = NoiseLedger(take=lambda: next(nothing))
    assert ledger.doubts() == []


def test_the_snapshot_of_this_machine_counts_this_process():
    before, used = Snapshot.take(), sum(os.times()[:2])
    while sum(os.times()[:2]) < used + 0.1:
        pass
    after = Snapshot.take()
    assert after.seconds > before.seconds
    assert after.own_cpu_seconds >= before.own_cpu_seconds + 0.05  # in steps of 10 ms


def test_a_system_without_proc_tells_nothing(monkeypatch):
    for module in ("noise", "environment"):
        monkeypatch.setattr(f"optkit.benchmarking.{module}.read", lambda file: "")
    taken = Snapshot.take()
    assert (taken.ticks, taken.mhz, taken.memory_stalled_seconds) == ({}, None, None)


def test_the_worst_of_several_stretches_is_kept():
    stretches = [ledger_of(ticks={"steal": 2.0}).figures(), ledger_of(mhz=2500.0).figures()]
    found = worst(stretches)
    assert found["steal"] == pytest.approx(1 / 21)
    assert found["mhz"] == 2500.0
    assert worst([]) == {}
