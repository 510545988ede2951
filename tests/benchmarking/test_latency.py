from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.benchmarking.latency import UNSTABLE, measure, speedup
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.statistics import difference_shown
from optkit.benchmarking.timed_process import Measured
from optkit.errors import RecipeError, WorkerError
from tests.benchmarking.fakes import Pool, encoded_set, write_artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")

SHAPES = (Shape(1, 8), Shape(4, 16), Shape(2, "data"))


@pytest.fixture
def encoded(tmp_path):
    encoded_set([4, 2, 8, 6, 2]).save(tmp_path / "examples.npz")
    return tmp_path / "examples.npz"


@pytest.fixture
def candidate(tmp_path):
    folder = write_artifact(tmp_path / "model")
    return lambda name, **options: Candidate(name, str(folder), "fake", options)


def test_every_visit_of_every_draw_is_kept(candidate, encoded):
    pool, plan = Pool(), Plan(SHAPES, rounds=4, processes=3, budget_ms_per_round=30)
    found = measure([candidate("a", delay_ms=2), candidate("b", delay_ms=5)], encoded, plan, spawn=pool)
    assert len(pool.children) == 6
    for name, once in (("a", 2.0), ("b", 5.0)):
        assert found[name].error is None
        for shape in SHAPES:
            draws = found[name].samples[shape]
            assert [len(draw) for draw in draws] == [4, 4, 4]
            batches = 3 if shape.tokens == "data" else 1
            repeats = round(30 / (once * batches))
            assert all(len(visit) == repeats * batches for draw in draws for visit in draw)
            assert all(x == pytest.approx(once) for draw in draws for visit in draw for x in visit)
    assert found["a"].cold_ms == pytest.approx(2.0)
    assert found["a"].load_ms == 0.0
    assert found["a"].peak_rss_bytes > 1e6


def test_repeats_stay_between_one_and_the_limit(candidate, encoded):
    plan = Plan((Shape(1, 8),), rounds=1, processes=1, budget_ms_per_round=60, batch_limit=7)
    found = measure(
        [candidate("slow", delay_ms=900), candidate("fast", delay_ms=0.01)], encoded, plan, spawn=Pool()
    )
    assert len(found["slow"].samples[Shape(1, 8)][0][0]) == 1
    assert len(found["fast"].samples[Shape(1, 8)][0][0]) == 7


def test_all_but_the_one_at_work_are_paused(candidate, encoded):
    pool, plan = Pool(), Plan(SHAPES, rounds=2, processes=2)
    measure([candidate(name, delay_ms=1) for name in "abc"], encoded, plan, spawn=pool)
    assert len(pool.log) > 100
    assert all(awake == [number] for number, _, _, awake in pool.log)
    assert all(child.closed for child in pool.children)


def visits(pool, plan, candidates):
    """The order of the timed visits after the warm-up of the first draw: (worker, shape)."""
    timed = [(n, f"{a['batch']}x{a['tokens']}") for n, call, a, _ in pool.log if call == "time"]
    return timed[len(plan.shapes) * candidates :]


def test_candidates_are_neighbours_at_each_shape_in_an_order_that_changes(candidate, encoded):
    pool, plan = Pool(), Plan(SHAPES, rounds=8, processes=1, seed=3)
    measure([candidate(name, delay_ms=1) for name in "abc"], encoded, plan, spawn=pool)
    order = visits(pool, plan, 3)
    groups = [order[i : i + 3] for i in range(0, len(order), 3)]
    assert len(groups) == 8 * len(SHAPES)
    assert all(len({shape for _, shape in group}) == 1 for group in groups)
    assert all({number for number, _ in group} == {0, 1, 2} for group in groups)
    assert len({tuple(number for number, _ in group) for group in groups}) == 6
    rounds = [tuple(g[0][1] for g in groups[i : i + 3]) for i in range(0, len(groups), 3)]
    assert all(len(set(r)) == 3 for r in rounds)
    assert len(set(rounds)) > 1


def test_the_seed_decides_the_order(candidate, encoded):
    def order(seed):
        pool, plan = Pool(), Plan(SHAPES, rounds=3, processes=1, seed=seed)
        measure([candidate("a", delay_ms=1), candidate("b", delay_ms=1)], encoded, plan, spawn=pool)
        return visits(pool, plan, 2)

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize("call", ["load", "attach", "cold", "warm", "time", "peak_rss"])
def test_a_crash_ends_only_its_own_candidate(candidate, encoded, call):
    pool, plan = Pool(fail_at={(1, call): 0}), Plan(SHAPES, rounds=2, processes=2)
    found = measure([candidate(n, delay_ms=1) for n in "abc"], encoded, plan, spawn=pool)
    assert found["b"].error == f"worker 1 crashed in {call}"
    assert pool.children[1].closed
    assert len(pool.children) == 5  # no second process for what failed
    for name in "ac":
        assert found[name].error is None
        assert [len(draw) for draw in found[name].samples[SHAPES[0]]] == [2, 2]


def test_rounds_before_a_crash_are_kept(candidate, encoded):
    plan = Plan((Shape(1, 8),), rounds=4, processes=1)
    # One call of `time` in the warm-up, two in rounds.
    found = measure(
        [candidate("a", delay_ms=1), candidate("b", delay_ms=2)], encoded, plan, spawn=Pool({(1, "time"): 3})
    )
    assert len(found["b"].samples[Shape(1, 8)][0]) == 2
    assert speedup(found["a"], found["b"], Shape(1, 8)).value == pytest.approx(0.5)


def test_a_process_that_cannot_start_is_an_error_of_its_candidate(candidate, encoded):
    pool, made = Pool(), []

    def spawn(threads):
        made.append(threads)
        if len(made) == 1:
            raise WorkerError("no process left")
        return pool(threads)

    found = measure(
        [candidate("a"), candidate("b", delay_ms=1)],
        encoded,
        Plan(SHAPES, rounds=1, processes=1),
        spawn=spawn,
    )
    assert found["a"].error == "no process left"
    assert found["b"].error is None


def test_threads_reach_the_process_and_the_runtime(candidate, encoded):
    pool = Pool()
    candidates = [candidate("a"), candidate("b", threads=1)]
    measure(candidates, encoded, Plan((Shape(1, 8),), rounds=1, processes=1, threads=2), spawn=pool)
    assert pool.threads == [2, 2]
    assert [a["options"]["threads"] for _, call, a, _ in pool.log if call == "load"] == [2, 1]


def test_progress_is_told(candidate, encoded):
    events, pool = [], Pool()
    plan = Plan((Shape(1, 8),), rounds=2, processes=2)
    measure([candidate("a", delay_ms=1)], encoded, plan, events.append, spawn=pool, clock=pool.clock)
    assert [e.fraction for e in events] == [0, 0.25, 0.5, 0.75, 1]
    assert events == sorted(events, key=lambda e: e.seconds)
    assert events[3].text == "timing side by side: round 2 of 2, process 2 of 2"


def test_speedup_uses_totals_for_data_and_medians_for_fixed_shapes():
    samples = [[[1.0, 1.0, 10.0]] * 6] * 3
    other = [[[1.0, 1.0, 4.0]] * 6] * 3
    data, fixed = Shape(1, "data"), Shape(1, 8)
    a, b = Measured("a", {data: samples, fixed: samples}), Measured("b", {data: other, fixed: other})
    assert speedup(a, b, data).value == pytest.approx(2.0)
    assert speedup(a, b, fixed).value == pytest.approx(1.0)
    assert difference_shown(speedup(a, b, data))


def test_speedup_of_a_candidate_without_samples_says_why():
    fine = Measured("a", {SHAPES[0]: [[[1.0]]]})
    with pytest.raises(WorkerError, match="'b' at 1x8, received none: it crashed"):
        speedup(fine, Measured("b", {SHAPES[0]: [[]]}, failure=WorkerError("it crashed")), SHAPES[0])


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_candidates_need_names_of_their_own(candidate, encoded, names):
    with pytest.raises(RecipeError, match="name of its own"):
        measure([candidate(n) for n in names], encoded, Plan(SHAPES), spawn=Pool())


@given(st.integers(1, 10**6), st.one_of(st.just("data"), st.integers(1, 10**6)))
def test_a_shape_is_read_as_it_is_written(batch, tokens):
    shape = Shape(batch, tokens)
    assert Shape.parse(str(shape)) == shape


@given(st.text(max_size=12))
def test_any_text_is_a_shape_or_refused(text):
    with suppress(RecipeError):
        assert Shape.parse(text).batch >= 1


@pytest.mark.parametrize("text", ["", "8", "0x8", "8x0", "-1x8", "8xevery", "8x128x2", "٣x4"])
def test_shapes_that_are_none(text):
    with pytest.raises(RecipeError, match="Expected a shape"):
        Shape.parse(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"shapes": ()},
        {"shapes": (Shape(1, 8), Shape(1, 8))},
        {"rounds": 0},
        {"processes": 0},
        {"budget_ms_per_round": 0},
        {"warmup": -1},
        {"threads": 0},
        {"batch_limit": 0},
        {"timeout_s": 0},
    ],
)
def test_plans_that_cannot_be_carried_out(changes):
    with pytest.raises(RecipeError, match="Expected"):
        Plan(**{"shapes": SHAPES, **changes})


def test_a_crash_and_a_hang_in_real_processes(candidate, encoded):
    plan = Plan((Shape(1, 8),), rounds=2, processes=1, budget_ms_per_round=5, threads=1, timeout_s=15)
    candidates = [
        candidate("fine", delay_ms=1),
        candidate("crash", flaw="crash"),
        candidate("memory", flaw="memory"),
    ]
    found = measure(candidates, encoded, plan)
    assert found["fine"].error is None
    assert [len(draw) for draw in found["fine"].samples[Shape(1, 8)]] == [2]
    assert "ended with code -9" in found["crash"].error
    assert found["memory"].error == "Out of memory."


class Ledgers:
    """One ledger per draw; each tells the doubts that it was given."""

    def __init__(self, *doubts):
        self._doubts = iter(doubts)

    def __call__(self):
        told = next(self._doubts)
        ledger = {"doubts": lambda self: told, "figures": lambda self: {"steal": float(len(told))}}
        return type("Ledger", (), ledger)()


@pytest.mark.parametrize(
    ("doubts", "redrawn", "said"),
    [
        ([[], []], 0, []),
        ([["busy"], [], []], 1, []),
        ([["busy"], ["busy"], [], []], 2, []),
        ([["busy"], ["busy"], ["still busy"], []], 2, [UNSTABLE, "still busy"]),
        ([["busy"], [], ["busy"], ["still busy"]], 2, [UNSTABLE, "still busy"]),
    ],
)
def test_a_disturbed_draw_is_drawn_again_then_marked(candidate, encoded, doubts, redrawn, said):
    pool, ledgers = Pool(), Ledgers(*doubts)
    plan = Plan(SHAPES, rounds=2, processes=2)
    found = measure(
        [candidate("a", delay_ms=1), candidate("b", delay_ms=1)], encoded, plan, spawn=pool, ledger=ledgers
    )
    assert (found.redrawn, found.doubts) == (redrawn, said)
    assert found.noise == {"steal": float("still busy" in said)}
    assert len(pool.children) == 2 * len(doubts)
    assert all([len(draw) for draw in found[name].samples[SHAPES[0]]] == [2, 2] for name in "ab")
    assert next(ledgers._doubts, None) is None


def test_a_plan_may_forbid_to_draw_again(candidate, encoded):
    plan = Plan(SHAPES, rounds=1, processes=1, redraws=0)
    found = measure([candidate("a", delay_ms=1)], encoded, plan, spawn=Pool(), ledger=Ledgers(["busy"]))
    assert found.doubts == [UNSTABLE, "busy"]


def test_rounds_go_on_until_the_least_time_is_reached(candidate, encoded):
    plan = Plan((Shape(1, 8),), rounds=2, processes=2, budget_ms_per_round=50, min_seconds=1)
    found = measure([candidate("a", delay_ms=10)], encoded, plan, spawn=Pool())
    for draw in found["a"].samples[Shape(1, 8)]:
        assert 500 <= sum(map(sum, draw)) < 500 + 50 + 1e-6
        assert len(draw) == 10


def test_the_whole_data_is_one_sample_in_the_batch_size_that_is_fastest(candidate, encoded):
    # 5 examples, 1 ms per call: one call for all of them wins, and sizes beyond are not tried.
    plan = Plan((Shape(1, "all"),), rounds=3, processes=2)
    found = measure([candidate("a", delay_ms=1)], encoded, plan, spawn=Pool())
    assert found["a"].offline_batch == 8
    assert found["a"].samples[Shape(1, "all")] == [[[pytest.approx(1.0)]] * 2] * 2


def test_each_candidate_may_bring_examples_of_its_own(candidate, encoded, tmp_path):
    encoded_set([3, 3]).save(tmp_path / "own.npz")
    own = Candidate(
        "own", candidate("x").artifact, "fake", {"delay_ms": 1}, encoded=str(tmp_path / "own.npz")
    )
    pool = Pool()
    measure([candidate("a"), own], encoded, Plan(SHAPES, rounds=1, processes=1), spawn=pool)
    assert [a["encoded"] for _, call, a, _ in pool.log if call == "attach"] == [
        str(encoded),
        str(tmp_path / "own.npz"),
    ]


def test_all_are_pinned_to_the_same_cores(candidate, encoded):
    import os

    core = min(os.sched_getaffinity(0))
    pool = Pool()
    before = os.sched_getaffinity(0)
    try:
        plan = Plan((Shape(1, 8),), rounds=1, processes=1, cores=(core,))
        found = measure([candidate("a"), candidate("b")], encoded, plan, spawn=pool)
        assert os.sched_getaffinity(0) == {core}  # the fakes run in this process
    finally:
        os.sched_setaffinity(0, before)
    assert [found[n].error for n in "ab"] == [None, None]
    assert [call for _, call, _, _ in pool.log][:2] == ["pin", "load"]
