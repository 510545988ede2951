"""What every renderer promises, whatever its format: a new file under `report/` is tested here at once."""

from __future__ import annotations

import copy
import html
import json

import pytest

from optkit.errors import RecipeError
from optkit.report import RENDERERS
from optkit.report.model import Report, render
from tests.report import examples

FORMATS = list(RENDERERS)
PLAIN = {
    "full": examples.full_report,
    "minimal": examples.minimal_report,
    "error": examples.error_report,
    "eight rows": lambda: examples.many_rows(8),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_names_every_row_and_verdict(format, make):
    report = make()
    text = render(report, format)
    for row in report.rows:
        assert row.name in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_shows_no_nan_none_or_infinity(format, make):
    text = render(make(), format).lower()
    for word in ("nan", "inf", "none"):
        assert word not in text.replace("information", "").replace("default-src 'none'", "").replace(
            "none;", ""
        ), word


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_strings_can_be_written_and_carry_no_control_characters(format):
    text = render(examples.hostile_report(), format)
    text.encode("utf-8")
    assert "\x00" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"json", "csv"}))
def test_hostile_markup_is_escaped(format):
    text = render(examples.hostile_report(), format)
    assert "<script" not in text.split("```")[0]
    assert "&lt;script" in text


@pytest.mark.parametrize("format", FORMATS)
def test_same_report_gives_the_same_text_and_stays_unchanged(format):
    report = examples.full_report()
    before = copy.deepcopy(report.to_dict())
    assert render(report, format) == render(report, format)
    assert report.to_dict() == before


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("make", PLAIN.values(), ids=PLAIN)
def test_renders_a_report_that_was_saved_and_loaded(format, make):
    loaded = Report.from_dict(json.loads(render(make(), "json")))
    if format != "json":
        assert html.unescape(render(loaded, format)) == html.unescape(render(make(), format))


@pytest.mark.parametrize("format", FORMATS)
def test_no_choice_and_no_gate(format):
    report = examples.full_report()
    report.chosen, report.gate = None, None
    assert "quantize-dynamic" in render(report, format)


def test_unknown_format_names_the_nearest():
    with pytest.raises(RecipeError) as caught:
        render(examples.minimal_report(), "markdwn")
    assert "markdown" in str(caught.value.hint)
