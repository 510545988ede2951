"""Which trials are measured in the end."""

from __future__ import annotations

from optkit.compression.search.finalists import FINALISTS, ROUNDS, rounds_of, title_of
from optkit.training.tuning.results import StudyResult, TrialResult, front
from optkit.training.tuning.study import Objective

OBJECTIVES = [Objective("accuracy", True), Objective("time", False)]


def trial(number, score, cost, feasible=True, state="complete"):
    notes = {"notes": {"score": score, "feasible": feasible}}
    return TrialResult(number, state, {}, [score, cost] if cost else [], {}, 1.0, "", notes=notes)


def rounds(*trials) -> list[list[int]]:
    best = front(trials, OBJECTIVES)
    result = StudyResult("s", "u", "tpe", "gate", OBJECTIVES, {}, {}, list(trials), best, {})
    return [[t.number for t in found] for found in rounds_of(result)]


def test_finalists_are_the_cheapest_that_kept_the_score():
    assert rounds(trial(0, 0.9, 3.0), trial(1, 0.8, 1.0, False), trial(2, 0.88, 2.0)) == [[2, 0]]


def test_where_none_kept_it_the_best_score():
    stopped = trial(1, 0.6, None, False, "stopped early")
    assert rounds(trial(0, 0.5, 1.0, False), stopped) == [[1]]
    assert rounds() == []


def test_after_the_front_comes_what_only_the_front_beats():
    assert rounds(trial(0, 0.9, 2.0), trial(1, 0.8, 1.0), trial(2, 0.85, 3.0), trial(3, 0.7, 4.0)) == [
        [1, 0],
        [2, 3],
    ]


def test_a_measurement_has_so_many_trials_and_there_are_so_many_measurements():
    found = rounds(*(trial(n, 0.5 + n / 1000, 1.0 + n) for n in range(40)))
    assert found == [list(range(i, i + FINALISTS)) for i in range(0, FINALISTS * ROUNDS, FINALISTS)]


def test_a_title_names_the_passes():
    one = TrialResult(3, "complete", {"prune.share": 0.5, "quantize": "quantize-dynamic"}, [], {}, 1.0, "")
    assert title_of(one) == "trial 3: prune + quantize-dynamic"
    assert title_of(trial(0, 0.9, 1.0)) == "trial 0: export-onnx"
