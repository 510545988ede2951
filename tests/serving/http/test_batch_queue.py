from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import OptkitError
from optkit.runtimes.fake import ManualClock
from optkit.serving.http.batch_queue import WINDOW, BatchQueue, Job, QueueFull


def line(clock=None, capacity=100, max_batch=4, max_tokens=1000, max_delay_s=0.0, **more) -> BatchQueue:
    return BatchQueue(capacity, max_batch, max_tokens, max_delay_s, clock=clock or ManualClock(), **more)


def texts(batch) -> list[str]:
    return [item.input for item in batch]


def test_a_batch_is_the_oldest_and_its_neighbours_in_length():
    waiting = line(max_batch=3)
    for text in ("a" * 100, "b" * 4, "c" * 96, "d" * 8, "e" * 108):
        waiting.put(Job([text]))
    assert texts(waiting.take()) == ["a" * 100, "c" * 96, "e" * 108]
    assert texts(waiting.take()) == ["b" * 4, "d" * 8]


def test_of_many_that_wait_the_oldest_are_looked_at():
    waiting, oldest = line(max_batch=2), WINDOW * 2
    waiting.put(Job(["first", *(f"{i:03} " * 9 for i in range(oldest - 1)), "other"]))
    assert texts(waiting.take()) == ["first", "000 " * 9]
    assert len(waiting) == oldest - 1


def test_tokens_bound_a_batch_and_one_input_always_fits():
    waiting = line(max_tokens=60)
    for n in (400, 80, 80, 80):
        waiting.put(Job(["x" * n]))
    assert [len(waiting.take()) for _ in range(3)] == [1, 2, 1]


def test_a_batch_has_one_set_of_options():
    waiting = line(max_batch=9)
    for i in range(6):
        waiting.put(Job([f"{i}"], options={"max_new_tokens": i % 2}))
    assert [texts(waiting.take()) for _ in range(2)] == [["0", "2", "4"], ["1", "3", "5"]]


def test_a_job_that_is_alone_is_given_out_whole_and_in_order():
    waiting = line(max_batch=2)
    waiting.put(Job(["a"]))
    waiting.put(Job(["long " * 50, "b", "c", "b"], alone=True))
    waiting.put(Job(["d"]))
    assert texts(waiting.take()) == ["a", "d"]
    assert texts(waiting.take()) == ["long " * 50, "b", "c", "b"]


def test_a_line_that_is_full_takes_nothing_of_a_request():
    waiting = line(capacity=3)
    waiting.put(Job(["a", "b"]))
    waiting.took(1, 21.0)  # the average begins at 0.01 s, and goes a tenth of the way
    with pytest.raises(QueueFull) as refused:
        waiting.put(Job(["c", "d"]))
    assert refused.value.retry_after_s == 4
    assert len(waiting) == 2
    assert not waiting.full()
    waiting.put(Job(["c"]))
    assert waiting.full()


def test_late_and_abandoned_requests_cost_no_work():
    clock = ManualClock()
    waiting = line(clock)
    waiting.put(Job(["late"], deadline=1.0))
    gone = Job(["gone"])
    waiting.put(gone)
    waiting.put(Job(["here"], deadline=3.0))
    gone.abandoned = True
    clock.advance(2)
    assert texts(waiting.take()) == ["here"]


def test_it_tells_how_many_wait_whenever_that_changes():
    told, clock = [], ManualClock()
    waiting = line(clock, capacity=3, max_batch=2, tell=told.append)
    waiting.put(Job(["a", "b", "c"]))
    with pytest.raises(QueueFull):
        waiting.put(Job(["d"]))
    waiting.take()
    assert told == [3, 1]
    waiting.take()
    waiting.put(Job(["late"], deadline=1.0))
    clock.advance(2)
    waiting.close()
    assert waiting.take() is None
    assert told == [3, 1, 0, 1, 0]


def test_one_client_never_waits_for_company():
    waiting = line(max_delay_s=100)
    for _ in range(3):
        waiting.put(Job(["a", "b"]))  # two inputs of one request are no company
        assert len(waiting.take()) == 2


def test_with_company_a_batch_waits_until_it_is_full():
    clock = ManualClock()
    waiting = line(clock, max_delay_s=100)
    waiting.put(Job(["a"]))
    waiting.put(Job(["b"]))
    assert len(waiting.take()) == 2
    taken = []
    thread = threading.Thread(target=lambda: taken.append(waiting.take()))
    waiting.put(Job(["c"]))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    for text in "def":
        waiting.put(Job([text]))
    thread.join(10)
    assert len(taken[0]) == 4


def test_with_company_a_batch_waits_no_longer_than_allowed():
    clock = ManualClock()
    waiting = line(clock, max_delay_s=5)
    waiting.put(Job(["a"]))
    waiting.put(Job(["b"]))
    waiting.take()
    waiting.put(Job(["c"]))
    clock.advance(5)
    assert texts(waiting.take()) == ["c"]


def test_a_closed_line_gives_out_what_it_holds_and_takes_no_more():
    waiting = line()
    waiting.put(Job(["a"]))
    waiting.close()
    with pytest.raises(OptkitError, match="closed"):
        waiting.put(Job(["b"]))
    assert texts(waiting.take()) == ["a"]
    assert waiting.take() is None


@given(st.lists(st.lists(st.text(max_size=300), min_size=1, max_size=5), max_size=20), st.integers(1, 8))
def test_every_input_is_given_out_once_and_the_oldest_first(requests, size):
    waiting = line(capacity=1000, max_batch=size, max_tokens=200)
    jobs = [Job(inputs) for inputs in requests]
    for job in jobs:
        waiting.put(job)
    waiting.close()
    left = [(job, i) for job in jobs for i in range(len(job.inputs))]
    while (batch := waiting.take()) is not None:
        assert 1 <= len(batch) <= size
        assert (batch[0].job, batch[0].place) == left[0]
        assert len(batch) == 1 or len(batch) * max(x.tokens for x in batch) <= 200
        for item in batch:
            left.remove((item.job, item.place))
    assert left == []


def test_what_could_not_be_answered_in_time_is_refused_at_once():
    clock = ManualClock()
    for streams in (1, 2):
        waiting = line(capacity=100, clock=clock, streams=streams)
        for _ in range(100):
            waiting.took(1, 1.0)  # a second each
        waiting.put(Job(["a"], deadline=clock() + 0.1))  # nothing waits before it: it is tried
        for _ in range(8):
            waiting.put(Job(["a"]))
        assert len(waiting) == 9
        assert not waiting.full(12.5 / streams)
        assert waiting.full(11.5 / streams)
        with pytest.raises(QueueFull):
            waiting.put(Job(["b"], deadline=clock() + 11.5 / streams))
        waiting.put(Job(["b"], deadline=clock() + 12.5 / streams))
