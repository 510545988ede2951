from __future__ import annotations

import os
import time

import numpy as np
import pytest

from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.batches import DATA_EXAMPLES, data_batches
from optkit.benchmarking.worker import Worker
from optkit.core.artifact import Artifact
from optkit.core.process import Child
from optkit.errors import CheckpointError, DataError, OptkitError, PassError, WorkerError
from optkit.runtimes.fake import FakeSession, ManualClock
from tests.benchmarking.fakes import encoded_set, write_artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")

LENGTHS = [4, 2, 8, 6, 2]


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "model")


@pytest.fixture
def encoded(tmp_path):
    encoded_set(LENGTHS).save(tmp_path / "examples.npz")
    return tmp_path / "examples.npz"


@pytest.fixture
def ready(artifact, encoded):
    """ready(**options) → a worker that has loaded a fake on a clock turned by hand."""

    def make(**options):
        clock = ManualClock()
        worker = Worker(lambda a, runtime, **o: FakeSession(clock=clock, **o), clock=clock)
        worker.load(str(artifact), "fake", options)
        worker.attach(str(encoded))
        return worker

    return make


def test_load_tells_what_it_loaded(artifact):
    clock = ManualClock()

    def slow(opened, runtime, **options):
        assert isinstance(opened, Artifact)
        assert (runtime, options) == ("fake", {"labels": 3})
        clock.advance(0.25)
        return FakeSession(**options)

    loaded = Worker(slow, clock=clock).load(str(artifact), "fake", {"labels": 3})
    assert loaded["load_ms"] == pytest.approx(250)
    assert loaded["rss_bytes"] > 1e6
    assert loaded["inputs"] == ["input_ids", "attention_mask"]


def test_a_missing_artifact_is_refused_before_its_runtime_is_opened(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        Worker(lambda *a, **o: pytest.fail("opened")).load(str(tmp_path / "none"), None, {})


def test_no_examples_are_refused(tmp_path):
    encoded_set([]).save(tmp_path / "empty.npz")
    with pytest.raises(DataError, match="at least one example"):
        Worker().attach(str(tmp_path / "empty.npz"))


@pytest.mark.parametrize("call", ["cold", "warm", "time"])
def test_calls_before_load_are_refused(call):
    arguments = {} if call == "cold" else {"batch": 1, "tokens": 4, "repeats": 1}
    with pytest.raises(OptkitError, match="'load'"):
        getattr(Worker(), call)(**arguments)


def test_a_fixed_shape_gives_one_sample_per_repeat(ready):
    assert ready(delay_ms=2).time(3, 16, 4) == pytest.approx([2.0] * 4)
    assert ready(delay_ms=1, delay_ms_per_token=0.5).time(2, 8, 2) == pytest.approx([9.0] * 2)


def test_data_gives_one_sample_per_batch_in_the_same_order(ready):
    worker = ready(delay_ms_per_token=1)
    first = worker.time(1, "data", 1)
    assert sorted(first) == pytest.approx(sorted(LENGTHS))
    assert worker.time(1, "data", 3) == pytest.approx(first * 3)
    assert sorted(worker.time(2, "data", 1)) == pytest.approx([4, 8, 12])  # padded areas of 2+2, 4+6, 8


def test_streams_are_new_queries_in_each_call_and_the_same_in_every_worker(ready):
    drawn = []
    for _ in range(2):
        worker = ready(delay_ms_per_token=1)
        drawn.append([np.round(worker.time(2, "stream", 1), 6).tolist() for _ in range(2)])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_warm_takes_no_samples(ready):
    worker = ready(delay_ms=1)
    assert worker.warm(1, 8, 5) is None
    assert worker.cold() == pytest.approx(1.0)


def test_evaluate_writes_all_outputs_in_order(ready, tmp_path):
    worker = ready(delay_ms=10)
    done = worker.evaluate(str(tmp_path / "out.npz"), batch_size=2, max_tokens=100)
    assert done["seconds"] == pytest.approx(0.03)
    assert done["peak_rss_bytes"] == worker.peak_rss()
    examples, session = encoded_set(LENGTHS), FakeSession()
    for i, row in enumerate(load_outputs(tmp_path / "out.npz")["logits"]):
        np.testing.assert_array_equal(row, session.infer(examples.batch([i]))["logits"][0])


def test_evaluate_refuses_outputs_that_are_no_numbers(ready, tmp_path):
    with pytest.raises(PassError, match="NaN"):
        ready(flaw="nan").evaluate(str(tmp_path / "out.npz"), batch_size=2, max_tokens=100)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_large_data_set_is_stood_for_by_its_quantiles(batch):
    lengths = np.random.default_rng(0).integers(1, 200, 5000)
    parts = data_batches(lengths, batch)
    picked = np.concatenate(parts)
    assert len(picked) == len(set(picked)) == DATA_EXAMPLES
    assert all(len(part) <= batch for part in parts)
    assert np.median(lengths[picked]) == pytest.approx(np.median(lengths), abs=4)
    assert lengths[picked].mean() == pytest.approx(lengths.mean(), rel=0.02)


def test_a_paused_process_uses_no_cpu(artifact, encoded):
    with Child("optkit.benchmarking.worker", threads=1, timeout_s=60) as child:
        child.call("load", artifact=str(artifact), runtime="fake", options={"spin": True})
        child.call("attach", encoded=str(encoded))
        assert child.call("time", batch=2, tokens=8, repeats=3)
        assert child.call("peak_rss") > 1e6
        child.pause()
        wait_until(lambda: state_of(child.pid) == "T")
        before = cpu_ticks(child.pid)
        time.sleep(0.3)
        assert cpu_ticks(child.pid) == before
        child.resume()
        # A lower bound only: the thread is as busy as the shared machine lets it.
        wait_until(lambda: cpu_ticks(child.pid) > before)
        assert child.call("cpu_seconds") > 0


@pytest.mark.parametrize(
    ("flaw", "said"),
    [("crash", "ended with code -9"), ("memory", "Out of memory"), ("hang", "did not answer")],
)
def test_a_worker_that_fails_says_so(artifact, encoded, flaw, said):
    with Child("optkit.benchmarking.worker", timeout_s=20) as child:
        child.call("load", artifact=str(artifact), runtime="fake", options={"flaw": flaw})
        child.call("attach", encoded=str(encoded))
        child.timeout_s = 0.5 if flaw == "hang" else 20
        with pytest.raises(WorkerError, match=said):
            child.call("cold")


def wait_until(condition, seconds=20.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come true in time"
        time.sleep(0.01)


def stat_of(pid: int) -> list[str]:
    if not os.path.exists("/proc/self/stat"):
        pytest.skip("there is no /proc here to read a process's CPU time from")
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rsplit(")", 1)[1].split()


def state_of(pid: int) -> str:
    return stat_of(pid)[0]


def cpu_ticks(pid: int) -> int:
    return sum(map(int, stat_of(pid)[11:13]))


def served(ready_worker, clock, **changes):
    settings = {"rate": 50.0, "seconds": 200.0, "seed": 1, "max_batch": 1, "give_up_ms": 1e6, **changes}
    return ready_worker.serve(**settings)


@pytest.mark.parametrize("tokens", [4, "data"])
def test_a_slowed_worker_does_as_much_more_work_as_asked(artifact, encoded, tokens):
    clock, burnt = ManualClock(), []

    def burn(steps):
        burnt.append(steps)
        clock.advance(steps * 1e-5 + 1e-3)  # the first steps find the caches full of the answer

    worker = Worker(lambda a, runtime, **o: FakeSession(clock=clock, **o), clock=clock, burn=burn)
    worker.load(str(artifact), "fake", {"delay_ms": 10}, slowdown=0.5)
    worker.attach(str(encoded))
    samples = worker.time(1, tokens, 3)
    assert samples == pytest.approx([15] * len(samples), rel=0.03)
    # 1 ms and steps of 10 microseconds after each answer, the number decided once.
    assert burnt[-len(samples) :] == [pytest.approx(400, rel=0.05)] * len(samples)
    assert len(set(burnt[-len(samples) :])) == 1
    calibrating = len(burnt)
    worker.time(1, tokens, 1)
    assert len(burnt) - calibrating == len(samples) / 3


@pytest.fixture
def queue(artifact, encoded):
    """queue(delay_ms) → a worker whose every answer takes so long, on a clock turned by hand."""

    def make(delay_ms):
        clock = ManualClock()
        worker = Worker(
            lambda a, runtime, **o: FakeSession(clock=clock, **o), clock=clock, sleep=clock.advance
        )
        worker.load(str(artifact), "fake", {"delay_ms": delay_ms})
        worker.attach(str(encoded))
        return worker, clock

    return make


def test_waiting_in_the_server_scenario_is_that_of_a_queue(queue):
    # M/D/1: Poisson arrivals, equal service times. Mean wait = rho / (2 (1 - rho)) service times
    # (Pollaczek and Khinchine); 10 ms at 50 per second: rho = 0.5, 5 ms.
    worker, clock = queue(10.0)
    found = served(worker, clock)
    assert not found["gave_up"]
    assert len(found["latencies_ms"]) == pytest.approx(50 * 200, rel=0.03)
    assert min(found["latencies_ms"]) == pytest.approx(10.0)
    assert np.mean(found["latencies_ms"]) == pytest.approx(15.0, rel=0.05)


def test_a_queue_that_only_grows_is_given_up(queue):
    worker, clock = queue(30.0)
    found = served(worker, clock, give_up_ms=500.0)
    assert found["gave_up"]
    assert max(found["latencies_ms"]) == pytest.approx(500, abs=60)
    assert clock() < 10


def test_whoever_waits_is_answered_together(queue):
    worker, clock = queue(30.0)
    found = served(worker, clock, max_batch=8, give_up_ms=500.0)
    assert not found["gave_up"]
    assert np.median(found["latencies_ms"]) < 70


def test_answers_in_the_server_scenario_never_precede_the_question(queue):
    worker, clock = queue(1.0)
    assert min(served(worker, clock, rate=900.0, seconds=20.0)["latencies_ms"]) >= 1.0 - 1e-9


def test_text_to_answer_counts_the_tokenizer_and_is_that_of_the_texts(checkpoint, encoded, tmp_path):
    (tmp_path / "texts.json").write_text('["a fine film", "the plot is thin and dull", "not good"]')
    worker = Worker()
    worker.load(str(checkpoint), "torch", {"threads": 1})
    worker.attach(str(encoded), texts=str(tmp_path / "texts.json"))
    samples = worker.time(1, "text", repeats=2)
    assert len(samples) == 6
    assert all(x > 0 for x in samples)


def test_text_to_answer_needs_texts(ready):
    with pytest.raises(DataError, match="Expected texts"):
        ready().time(1, "text", repeats=1)


def test_cores_that_are_not_there_are_an_error():
    with pytest.raises(OptkitError, match="Cannot run on the cores"):
        Worker().pin([4096])
