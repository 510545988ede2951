"""Runtime settings by measurement: the faster value is kept, noise changes nothing, failures are traced."""

from __future__ import annotations

from pathlib import Path

import pytest

from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.results import failed_row
from optkit.benchmarking.timed_process import Measured
from optkit.compression.runtime_search import SETTINGS, may_pad, search
from optkit.errors import WorkerError
from optkit.runtimes.onnxruntime import OnnxRuntimeSession
from optkit.runtimes.openvino import OpenVinoSession

SHAPE = Shape(1, 16)
PLAN = Plan((SHAPE,), threads=2)


def timer(cost, broken=()):
    """A measurement in which an answer takes `cost(options)` ms, with a little spread."""

    def measure(candidates, encoded, plan):
        found = {}
        for i, candidate in enumerate(candidates):
            rounds = [[cost(candidate.options) * (1 + 0.001 * ((j + i) % 3))] * 3 for j in range(6)]
            failed = any(candidate.options.get(k) == v for k, v in broken)
            failure = WorkerError("it crashed") if failed else None
            found[candidate.name] = Measured(candidate.name, {SHAPE: [rounds, rounds]}, failure=failure)
        return Measurement(found)

    return measure


def test_a_faster_value_is_kept_and_the_next_setting_starts_from_it():
    seen = []

    def cost(options):
        seen.append(dict(options))
        return (
            4.0 / (1.5 if options.get("threads") == 1 else 1) / (1.2 if not options.get("arena", True) else 1)
        )

    found = search(Candidate("x", "folder", "onnxruntime"), Path("e"), PLAN, timer(cost))
    assert found.options == {"threads": 1, "arena": False}
    assert all(options.get("threads") == 1 for options in seen if set(options) - {"threads"})
    assert next(t for t in found.trace if t["setting"] == "threads")["speed"] == pytest.approx(1.5, abs=0.01)


def test_equal_times_change_nothing():
    candidate = Candidate("x", "folder", "openvino")
    found = search(candidate, Path("e"), PLAN, timer(lambda options: 4.0), bucket=True)
    assert found.options == {}
    assert {t["setting"] for t in found.trace} == set(SETTINGS["openvino"])


def test_padding_is_tried_only_where_no_answer_depends_on_it():
    row = failed_row("x", None)
    row.precision = "fp32"
    assert may_pad(row)
    row.precision = "int8"
    assert not may_pad(row), "nobody asked the model"
    for invariant in (True, False):
        row.probes = {"neighbours": {"invariant": invariant}}
        assert may_pad(row) is invariant
    fast = timer(lambda options: 4.0 / options.get("bucket", 1))
    found = search(Candidate("x", "folder", "onnxruntime"), Path("e"), PLAN, fast)
    assert "bucket" not in {t["setting"] for t in found.trace}
    found = search(Candidate("x", "folder", "onnxruntime"), Path("e"), PLAN, fast, bucket=True)
    assert found.options == {"bucket": 16}


def test_a_value_that_crashes_is_traced_and_not_taken():
    time = timer(lambda options: 1.0 if "arena" in options else 4.0, broken=[("arena", False)])
    found = search(Candidate("x", "folder", "onnxruntime"), Path("e"), PLAN, time)
    assert found.options == {}
    assert {"setting": "arena", "value": False, "failed": True} in found.trace


def test_a_runtime_without_settings_has_none():
    assert search(Candidate("x", "folder", "torch"), Path("e"), PLAN, timer(lambda o: 1.0)).trace == []


@pytest.mark.parametrize(
    ("runtime", "session"), [("onnxruntime", OnnxRuntimeSession), ("openvino", OpenVinoSession)]
)
def test_every_setting_is_an_option_of_its_session(runtime, session):
    import inspect

    options = {*inspect.signature(session).parameters, "bucket"}  # which `open_session` takes for all
    assert set(SETTINGS[runtime]) <= options
