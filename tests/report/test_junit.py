from __future__ import annotations

from xml.etree import ElementTree

from optkit.report.junit import render
from tests.report import examples


def cases(report):
    root = ElementTree.fromstring(render(report))
    suite = root.find("testsuite")
    return root, {case.get("name"): case for case in suite.findall("testcase")}


def test_judged_rows_are_cases_and_the_failure_gives_the_reasons():
    report = examples.full_report()
    root, found = cases(report)
    assert list(found) == ["quantize-dynamic", "quantize-static"]
    assert found["quantize-dynamic"].find("failure") is None
    assert found["quantize-static"].find("failure").get("message") == report.rows[3].reasons[0]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")


def test_figures_are_properties():
    _, found = cases(examples.full_report())
    values = {p.get("name"): p.get("value") for p in found["quantize-dynamic"].iter("property")}
    assert values["score"] == "0.8773"
    assert float(values["speedup"]) == 4.75


def test_an_error_row_is_an_error():
    root, found = cases(examples.error_report())
    assert "signal 9" in found["quantize-dynamic"].find("error").get("message")
    assert root.get("errors") == "1"


def test_control_characters_in_names_leave_the_xml_valid():
    _, found = cases(examples.hostile_report())
    assert all("<script>" in name and "\ufffd" in name for name in found)


def test_baselines_are_properties_of_the_suite():
    root, _ = cases(examples.minimal_report())
    names = [p.get("name") for p in root.iter("property")]
    assert "torch-fp32.score" in names
    assert root.get("tests") == "0"
