"""The management library is played here: no GPU is needed."""

from __future__ import annotations

import os

import pytest

from optkit.cuda.memory import _NOT_KNOWN, held_bytes


class Library:
    """NVML with `devices`: per GPU a list of (pid, bytes)."""

    def __init__(self, devices, starts=True):
        self._devices, self._starts, self.open = devices, starts, 0

    def nvmlInit_v2(self):
        self.open += self._starts
        return 0 if self._starts else 9  # NVML_ERROR_DRIVER_NOT_LOADED

    def nvmlShutdown(self):
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self._devices)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = index + 1
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device, size, processes):
        for i, (pid, used) in enumerate(self._devices[device.value - 1]):
            processes[i].pid, processes[i].used = pid, used
        size._obj.value = len(self._devices[device.value - 1])
        return 0


@pytest.mark.parametrize(
    ("devices", "held"),
    [
        ([[(7, 100), (8, 50)], [(7, 11)]], 111),
        ([[(8, 50)]], None),
        ([], None),
        ([[(7, _NOT_KNOWN)]], None),
    ],
)
def test_the_memory_of_one_process_on_all_gpus(devices, held):
    library = Library(devices)
    assert held_bytes(7, load=lambda name: library) == held
    assert library.open == 0


def test_this_process_is_meant_where_none_is_named():
    assert held_bytes(load=lambda name: Library([[(os.getpid(), 5)]])) == 5


def test_no_driver_and_an_old_one_tell_nothing():
    def missing(name):
        raise OSError(name)

    assert held_bytes(load=missing) is None
    assert held_bytes(load=lambda name: Library([], starts=False)) is None
    assert held_bytes(load=lambda name: object()) is None
