from __future__ import annotations

import json

import pytest

from optkit.benchmarking.environment import cpu_limit, describe, standing_doubts, thread_count, usable_cores
from optkit.errors import RecipeError


def test_the_description_is_plain_json():
    found = json.loads(json.dumps(describe(threads=2)))
    assert found["threads"] == 2
    assert 1 <= found["cores"] <= found["cores_total"]
    assert found["cores"] == usable_cores()
    assert {
        "cpu",
        "isa",
        "memory_bytes",
        "numa_nodes",
        "virtual",
        "governor",
        "frequency_driver",
        "mhz",
        "system",
        "python",
    } <= set(found)


def test_a_system_without_proc_is_described_all_the_same(monkeypatch):
    monkeypatch.setattr("optkit.benchmarking.environment.read", lambda file: "")
    monkeypatch.setattr("optkit.core.cpu.read", lambda file: "")
    found = describe()
    assert found["cpu"] is not None
    assert (found["memory_bytes"], found["mhz"], found["isa"]) == (None, None, [])


@pytest.mark.parametrize(
    ("governor", "driver", "doubted"),
    [
        ("powersave", "acpi-cpufreq", True),
        ("powersave", "intel_pstate", False),
        ("performance", "acpi-cpufreq", False),
        (None, None, False),
    ],
)
def test_a_governor_that_keeps_the_clock_low_is_a_doubt(governor, driver, doubted):
    assert bool(standing_doubts({"governor": governor, "frequency_driver": driver})) is doubted


def test_threads_are_one_per_core_unless_fewer_are_asked_for():
    assert thread_count(None) == usable_cores()
    assert thread_count(1) == 1
    with pytest.raises(RecipeError, match=f"at most {usable_cores()} threads.*received 999"):
        thread_count(999)


def test_threads_are_no_more_than_the_cores_that_all_models_run_on():
    assert thread_count(None, among=(0,)) == 1
    assert thread_count(None, among=range(999)) == usable_cores()
    with pytest.raises(RecipeError, match="at most 1 threads.*received 2") as raised:
        thread_count(2, among=(0,))
    assert "--cores" in raised.value.hint


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_bounds_the_cores(monkeypatch, files, limit):
    root = "/sys/fs/cgroup/"
    monkeypatch.setattr("optkit.benchmarking.environment.read", lambda f: files.get(f.removeprefix(root), ""))
    monkeypatch.setattr("optkit.benchmarking.environment.usable", lambda: {0, 1, 2, 3})
    assert cpu_limit() == limit
    assert usable_cores() == {1.5: 2, 0.5: 1, None: 4}[limit]
