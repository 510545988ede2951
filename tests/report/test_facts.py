from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from optkit.benchmarking.gate import Gate
from optkit.errors import DataError
from optkit.report.facts import Environment, GateResult, Winner
from optkit.report.model import Report, render
from tests.report.examples import full_report, minimal_report


def saved(report: Report) -> dict:
    return json.loads(render(report, "json"))


def test_gate_winners_and_environment_come_back_as_they_were():
    report = full_report()
    report.winners = [Winner("1xdata", "quantize-dynamic", "onnxruntime", 2.4)]
    report.environment = Environment(cpu="x", gpu={"name": "y"}, transfers="included", noise={"steal": None})
    again = Report.from_dict(saved(report))
    assert (again.gate, again.winners, again.environment) == (report.gate, report.winners, report.environment)
    assert saved(report)["gate"] == {
        **asdict(Gate(0.005, False, 1.5)),
        **{"conditions": again.gate.conditions, "passed": True},
    }


def test_without_a_gate_and_a_gpu_nothing_is_said_of_them():
    value = saved(minimal_report())
    assert value["gate"] == {}
    assert not {"gpu", "transfers"} & value["environment"].keys()
    assert Report.from_dict(value).gate is None


def test_what_another_version_says_besides_is_left_out():
    value = saved(full_report())
    value["environment"]["phase of the moon"] = value["gate"]["mood"] = "full"
    assert Report.from_dict(value).environment == full_report().environment
    assert isinstance(Report.from_dict(value).gate, GateResult)


@pytest.mark.parametrize(
    ("name", "wrong"), [("gate", {"passed": "yes"}), ("environment", {"cores": "two"}), ("winners", [{}])]
)
def test_a_value_of_another_type_is_refused(name, wrong):
    with pytest.raises(DataError, match=name):
        Report.from_dict({**saved(full_report()), name: wrong})
