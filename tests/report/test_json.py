from __future__ import annotations

import json

import pytest

from optkit.report.json import render
from optkit.report.model import Report
from tests.report import examples


@pytest.mark.parametrize("make", [examples.full_report, examples.minimal_report, examples.hostile_report])
def test_round_trips_exactly(make):
    report = make()
    text = render(report)  # compared as text: a bound that there is none of is NaN, which equals nothing
    assert list(json.loads(text)) == list(report.to_dict())
    assert render(Report.from_dict(json.loads(text))) == text


def test_keys_are_in_the_order_of_the_dataclass():
    report = examples.full_report()
    assert list(json.loads(render(report))) == list(report.to_dict())


def test_what_json_does_not_know_is_null():
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    value = json.loads(render(examples.error_report()), parse_constant=refuse)
    assert value["rows"][2]["score"] is None
    assert value["rows"][2]["drop"] == {"value": None, "low": None, "high": None}
