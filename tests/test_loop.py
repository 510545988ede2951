"""The loop's own decisions, on a fake evaluator; the whole way is in test_compression.py."""

from __future__ import annotations

import pytest

import optkit.loop as module
from optkit.loop import UNSTABLE, Loop


class FakeEvaluator:
    def __init__(self):
        self.timed = 0

    def time(self, rows, candidates):
        self.timed += 1

    def roofline(self, rows):
        return None, []


@pytest.mark.parametrize(
    ("doubts", "timed", "noise"),
    [
        ([[]], 1, []),
        ([["busy"], []], 2, []),
        ([["busy"], ["still busy"]], 2, [UNSTABLE, "still busy"]),
    ],
)
def test_a_disturbed_measurement_is_repeated_once_then_marked(monkeypatch, doubts, timed, noise):
    answers = iter(doubts)

    class FakeLedger:
        def doubts(self):
            return next(answers)

    monkeypatch.setattr(module, "NoiseLedger", FakeLedger)
    evaluator = FakeEvaluator()
    loop = Loop(None, None, evaluator, None, None, "validation", None, False, lambda event: None)
    loop._time()
    assert (evaluator.timed, loop.noise) == (timed, noise)
