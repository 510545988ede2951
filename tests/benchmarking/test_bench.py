"""The public `bench`: what a caller asks for becomes the plan of `benchmark`."""

from __future__ import annotations

import os

import pytest

import optkit
from optkit.errors import RecipeError


@pytest.fixture
def asked(monkeypatch):
    """What `benchmark` is called with; nothing is measured."""
    calls = []
    monkeypatch.setattr("optkit.benchmarking.bench.benchmark", lambda models, **k: calls.append((models, k)))
    return calls


def test_lists_and_words_with_commas_are_the_same(asked):
    core = min(os.sched_getaffinity(0))
    optkit.bench(["a", "b"], names="one,two", shapes="1x8,8xdata", cores=str(core), threads=1)
    optkit.bench(["a", "b"], names=["one", "two"], shapes=["1x8", "8xdata"], cores=[core], threads=1)
    assert asked[0] == asked[1]
    models, told = asked[0]
    assert models == ["a", "b"]
    assert (list(told["names"]), list(told["shapes"])) == (["one", "two"], ["1x8", "8xdata"])


def test_what_is_not_said_has_its_default(asked):
    optkit.bench(["a"])
    told = asked[0][1]
    assert (told["split"], told["names"], told["shapes"]) == ("validation", None, None)
    assert told["scenarios"].names == ()
    assert told["scenarios"].p99_ms == 100.0


def test_more_precision_is_more_rounds_in_more_processes(asked):
    for precise in (False, True):
        optkit.bench(["a"], precise=precise)
    quick, slow = (told["plan"] for _, told in asked)
    assert slow["rounds"] > quick.get("rounds", 6)
    assert slow["processes"] > quick.get("processes", 2)
    optkit.bench(["a"], precise=True, rounds=3)
    assert asked[2][1]["plan"]["rounds"] == 3


def test_a_core_that_the_machine_has_not_is_refused(asked):
    with pytest.raises(RecipeError, match="99999"):
        optkit.bench(["a"], cores="99999")
    assert not asked
