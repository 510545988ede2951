"""The harness on a GPU that is played: marks, settled clocks, memory and power; peaks on the CPU."""

from __future__ import annotations

import types

import pytest

from optkit.benchmarking.gpu_peaks import measure_peaks
from optkit.benchmarking.worker import Worker
from optkit.runtimes.cuda.state import process_memory_mib
from optkit.runtimes.fake import FakeSession, ManualClock
from tests.benchmarking.fakes import encoded_set, write_artifact


class Gpu(FakeSession):
    """Answers at once and works on for 4 ms; whoever does not wait sees a model that takes no time."""

    device = "cuda"

    def __init__(self, clock) -> None:
        super().__init__()
        self.clock, self.pending, self.answers = clock, 0.0, 0

    def infer(self, feeds):
        self.pending += 0.004
        self.answers += 1
        return super().infer(feeds)

    def synchronize(self):
        self.clock.advance(self.pending)
        self.pending = 0.0

    def mark(self):
        return self.clock() + self.pending

    def elapsed_ms(self, begin, end):
        return (end - begin) * 1000


@pytest.fixture
def worker(tmp_path):
    """A worker with such a model, and a GPU whose clock rises from 300 MHz and then stays."""
    clock, readings = ManualClock(), iter([300, 900, 1500, 1980, 1980, 1980])
    session = Gpu(clock)
    state = {"power_w": 310.0, "process_memory_mib": 512.0}
    worker = Worker(
        lambda *_, **__: session,
        clock=clock,
        read_state=lambda: {"sm_mhz": float(next(readings, 1980)), **state},
    )
    worker.load(str(write_artifact(tmp_path / "m")), None, {})
    encoded_set([4, 6, 2]).save(tmp_path / "e.npz")
    worker.attach(str(tmp_path / "e.npz"))
    return worker, session


def test_a_sample_lasts_until_the_device_is_done(worker):
    timed, _ = worker
    assert timed.time(2, 4, 3) == pytest.approx([4, 4, 4])


def test_an_earlier_answer_is_no_part_of_a_sample(worker):
    timed, session = worker
    session.pending = 5.0
    assert timed.time(2, 4, 1) == pytest.approx([4])


def test_the_first_warm_up_goes_on_until_the_clock_has_settled(worker):
    timed, session = worker
    timed.warm(2, 4, repeats=1)
    assert session.answers == 1 + 6 * 10  # six readings, ten answers before each
    timed.warm(2, 4, repeats=1)
    assert session.answers == 62


def test_what_the_gpu_did_is_kept(worker):
    timed, _ = worker
    timed.warm(2, 4, repeats=1)
    timed.time(2, 4, 3)
    found = timed.gpu()
    assert found["device_ms"] == {"2x4": pytest.approx(4)}
    assert (found["sm_mhz"], found["power_w"], found["process_memory_mib"]) == (1980, 310, 512)


def test_a_clock_that_never_settles_is_not_waited_for_long(tmp_path):
    clock = ManualClock()
    session, wild = Gpu(clock), iter(range(100, 10**9, 500))

    def read():
        session.synchronize()
        return {"sm_mhz": float(next(wild) % 1900)}

    worker = Worker(lambda *_, **__: session, clock=clock, read_state=read)
    worker.load(str(write_artifact(tmp_path / "m")), None, {})
    encoded_set([4]).save(tmp_path / "e.npz")
    worker.attach(str(tmp_path / "e.npz"))
    worker.warm(1, 4, repeats=0)
    assert 5 < clock() < 6


def test_on_a_cpu_there_is_nothing_to_tell(tmp_path):
    worker = Worker(lambda *_, **__: FakeSession(), read_state=lambda: pytest.fail("asked for a GPU"))
    worker.load(str(write_artifact(tmp_path / "m")), None, {})
    encoded_set([4]).save(tmp_path / "e.npz")
    worker.attach(str(tmp_path / "e.npz"))
    worker.warm(1, 4, repeats=1)
    assert worker.gpu() == {}


def test_peaks_are_measured_by_type():
    import torch

    peak = measure_peaks(torch, "cpu", side=64, block=2**16)
    assert min(peak.fp32, peak.fp16, peak.bandwidth) > 0
    assert all(value is None or value >= 0 for value in peak.to_dict().values())


def test_the_memory_of_this_process_is_picked_out():
    done = types.SimpleNamespace(stdout="12, 300\n77, 4096\n78, [N/A]\n")
    assert process_memory_mib(77, run=lambda *_, **__: done) == 4096
    assert process_memory_mib(78, run=lambda *_, **__: done) is None
    assert process_memory_mib(5, run=lambda *_, **__: done) is None
