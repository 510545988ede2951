from __future__ import annotations

import math
from dataclasses import replace

import pytest

from optkit.benchmarking import compare as module
from optkit.benchmarking.compare import gate, markdown, merge
from optkit.benchmarking.latency import UNSTABLE
from optkit.errors import DataError, GateFailed, RecipeError
from optkit.report.facts import Environment, Winner
from optkit.report.interval import Interval
from optkit.report.model import Report, Row


def report(score: float = 0.9, speed: tuple[float, float, float] = (4.0, 3.97, 4.03), **changes) -> Report:
    rows = [
        Row("fp32", "", "torch", "fp32", 100, 0.9, 0, 1, [], None, 1, 0, "baseline"),
        Row("int8", "", "onnxruntime", "int8", 25, score, 0, 1, [], Interval(*speed), 1, 0, "passed"),
    ]
    data = {"name": "d", "split": "validation", "examples": 100, "sha256": "0"}
    made = Report("text-classification", "accuracy", data, "cpu", Environment(), rows, "int8")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_the_same_report_passes_with_no_difference_shown():
    found = gate(report(), report())
    assert found.passed
    assert found.speed.value == pytest.approx(1)
    assert "no difference shown" in markdown(found)


def test_a_drop_beyond_the_limit_fails_with_both_figures():
    found = gate(report(score=0.88), report(), max_drop="1%")
    assert not found.passed
    assert "drops by 0.0200, allowed are 0.0090" in found.reasons[0]
    with pytest.raises(GateFailed):
        module.require_passed(found)


def test_the_drop_is_paired_where_both_say_which_were_right():
    old, new = report(), report(score=0.895)
    assert "not paired" in markdown(gate(new, old))
    # 895 and 900 of 1,000 right: the same examples but for 5, or 100 wrong here and 105 there.
    old.rows[1].outcomes, near = "1" * 900 + "0" * 100, "1" * 895 + "0" * 105
    far = "0" * 105 + "1" * 895
    drops = []
    for outcomes in (near, far):
        new.rows[1].outcomes = outcomes
        found = gate(new, old)
        assert found.passed
        assert found.drop.value == pytest.approx(0.005)
        assert "paired [" in markdown(found)
        drops.append(found.drop)
    assert drops[0].high < 0.012
    assert drops[1].high > 0.03
    other = report(data={**old.data, "sha256": "1"})
    other.rows[1].outcomes = near
    assert "not paired" in markdown(gate(new, other, allow_other_data=True))
    assert "1000 examples are too few to promise a drop of at most 0.0090" in markdown(found)


def test_a_busy_machine_is_remembered():
    doubted = report(doubts=[UNSTABLE, "Other processes used 1.00 cores."])
    assert gate(report(), doubted).doubts == [f"The baseline says: {UNSTABLE}"]
    assert gate(doubted, report()).doubts == [f"The new report says: {UNSTABLE}"]


def test_without_scores_only_speed_is_compared():
    nothing = {"metric": "", "score": float("nan")}
    found = gate(report(**nothing), report(**nothing))
    assert found.passed
    assert "| score | – | – |" in markdown(found)
    assert not gate(report(speed=(3.0, 2.9, 3.1), **nothing), report(**nothing)).passed


def test_a_slowdown_counts_only_when_it_is_shown():
    assert gate(report(speed=(3.4, 2.5, 4.6)), report()).passed, "its interval reaches far above"
    found = gate(report(speed=(3.0, 2.9, 3.1)), report())
    assert "is slower: 0.75" in found.reasons[0]
    assert gate(report(speed=(3.0, 2.9, 3.1)), report(), max_slowdown="30%").passed


def test_a_slowdown_that_could_not_have_been_seen_is_a_doubt():
    wide = {"speed": (4.0, 3.64, 4.4)}
    (doubt,) = gate(report(**wide), report()).doubts
    assert "only one beyond 0.14 would have failed" in doubt
    assert not gate(report(), report()).doubts
    assert not gate(report(**wide), report(), max_slowdown="30%").doubts
    # What it names is where the gate turns.
    for factor, passed in ((0.87, True), (0.855, False)):
        slower = report(speed=(4.0 * factor, 3.64 * factor, 4.4 * factor))
        assert gate(slower, report()).passed is passed


def test_the_interval_of_the_quotient_joins_both():
    found = gate(report(speed=(4.0, 3.6, 4.44)), report(speed=(4.0, 3.6, 4.44)))
    assert found.speed.high == pytest.approx(1.16, abs=0.01)  # 1.11 each, joined by squares


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": {"name": "d", "split": "test", "examples": 100, "sha256": "0"}}, "split"),
        ({"data": {"name": "d", "split": "validation", "examples": 100, "sha256": "1"}}, "sha256"),
    ],
)
def test_other_data_is_refused_unless_asked(changes, what):
    with pytest.raises(DataError, match=f"different data: {what}") as raised:
        gate(report(**changes), report())
    assert "--allow-other-data" in raised.value.hint
    assert gate(report(**changes), report(), allow_other_data=True).passed


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"metric": "f1"}, "metric"),
        ({"task": "embeddings"}, "task"),
        ({"metric": "", "fidelity": "answers compared"}, "what was measured"),
    ],
)
def test_what_another_metric_says_is_never_compared(changes, what):
    for allow in (False, True):
        with pytest.raises(DataError, match=f"do not compare: {what}"):
            gate(report(**changes), report(), allow_other_data=allow)


NAN = math.nan


@pytest.mark.parametrize("side", ["report", "baseline"])
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"speedup": None}, "speedup"),
        ({"speedup": Interval(NAN, 3.9, 4.1)}, "speedup"),
        ({"speedup": Interval(4.0, NAN, NAN)}, "speedup"),
        ({"speedup": Interval(4.0, 3.9, NAN)}, "speedup"),
        ({"speedup": Interval(4.0, 0.0, 4.1)}, "speedup"),
        ({"speedup": Interval(4.0, 4.1, 3.9)}, "speedup"),
        ({"speedup": Interval(math.inf, math.inf, math.inf)}, "speedup"),
        ({"score": NAN, "agreement": NAN}, "accuracy"),
        ({"score": math.inf}, "accuracy"),
    ],
)
def test_what_has_no_value_was_not_compared_and_never_passes(changes, what, side):
    broken = report()
    broken.rows[1] = replace(broken.rows[1], **changes)
    found = gate(*((broken, report()) if side == "report" else (report(), broken)))
    assert not found.passed
    assert any(r.startswith("nothing was compared") and what in r and side in r for r in found.reasons)


@pytest.mark.parametrize("count", [0, None, "many", True])
def test_a_report_on_no_examples_compares_nothing(count):
    data = {"name": "d", "split": "validation", "examples": count, "sha256": "0"}
    found = gate(report(data=data), report(data=data))
    assert "nothing was compared: int8 of the report has no value for examples" in found.reasons


def test_a_report_that_does_not_say_on_which_data_it_rests_is_refused():
    data = {"name": "d", "split": "validation", "examples": 100}
    with pytest.raises(DataError, match="sha256 is missing"):
        gate(report(data=data), report(data=data))


def test_the_baselines_error_row_fails():
    broken = report()
    broken.rows[1].verdict, broken.rows[1].reasons = "error", ["crashed"]
    assert any("crashed" in reason for reason in gate(report(), broken).reasons)


def test_two_reports_of_fidelity_are_compared_by_agreement():
    def only(agreement: float) -> Report:
        made = report(metric="", score=NAN, fidelity="answers compared")
        made.rows[1].agreement = agreement
        return made

    assert gate(only(0.99), only(0.99)).passed
    found = gate(only(0.97), only(0.99))
    assert found.reasons == ["the agreement drops by 0.0200, allowed are 0.0099"]
    assert "| agreement | 0.9900 | 0.9700" in markdown(found)
    assert not gate(only(NAN), only(NAN)).passed


def test_a_row_can_be_named_and_must_be_there():
    found = gate(report(), report(), row="fp32")
    assert found.speed is None
    assert not found.passed, "the first row has no speedup"
    with pytest.raises(DataError, match="it has: fp32, int8"):
        gate(report(), report(), row="int4")
    with pytest.raises(DataError, match="no chosen row"):
        gate(report(chosen=None), report())


def test_an_error_row_fails():
    broken = report()
    broken.rows[1].verdict, broken.rows[1].reasons = "error", ["crashed"]
    assert any("crashed" in reason for reason in gate(broken, report()).reasons)


def test_a_limit_that_makes_no_sense_is_refused():
    with pytest.raises(RecipeError):
        gate(report(), report(), max_slowdown="fast")


def test_without_limits_nothing_is_judged():
    found = gate(report(score=0.5, speed=(1.0, 0.5, 2.0)), report(), max_drop=None, max_slowdown=None)
    assert (found.reasons, found.doubts) == ([], [])
    assert markdown(found, judged=False).startswith("### optkit: int8\n")


def test_merging_keeps_each_row_once_and_says_what_does_not_compare():
    other = report(winners=[Winner("1xdata", "int8", "onnxruntime", 1.0)])
    other.rows[1].name = "int4"
    merged = merge([other, report()])
    assert merged.winners == [], "times of different runs"
    merged = merge([report(), other])
    assert [r.name for r in merged.rows] == ["fp32", "int8", "int4"]
    assert merged.chosen is None
    assert "different runs" in merged.doubts[0]


def test_merging_needs_the_same_first_row():
    other = report()
    other.rows[0].name = "eager"
    with pytest.raises(DataError, match="same first row"):
        merge([report(), other])


def test_hostile_names_stay_text():
    assert "<b>" not in markdown(gate(report(metric="<b>"), report(metric="<b>")))
