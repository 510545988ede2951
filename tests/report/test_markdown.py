from __future__ import annotations

import pytest

from optkit.report.interval import Interval
from optkit.report.markdown import escape, render
from tests.report import examples


def test_begins_with_one_verdict_sentence():
    first = render(examples.full_report()).splitlines()[0]
    assert first.startswith(
        "### ✅ optkit: quantize-dynamic passes the gate: 4.75 times as fast as torch-fp32"
    )
    assert "(95% interval 4.46 to 5.08)" in first
    assert "22.9 MB instead of 90.9" in first


def test_says_what_batches_by_length_save():
    shown = render(examples.full_report())
    assert "2.1% of the token slots in batches built by length, 43.2% in the data's own order" in shown
    assert "token slots" not in render(examples.minimal_report())


def test_every_table_line_has_as_many_cells():
    for make in (examples.full_report, examples.error_report, examples.hostile_report):
        lines = [line for line in render(make()).splitlines() if line.startswith("| ")]
        assert len(lines) == 2 + 4
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_no_win_inside_the_noise():
    report = examples.full_report()
    report.rows[2].speedup = Interval(1.02, 0.96, 1.08)
    text = render(report)
    assert "no difference in speed from torch-fp32 shown (95% interval 0.960 to 1.08)" in text
    assert "1.02× [0.960, 1.08], no difference shown" in text


def test_a_failed_gate_gives_the_reasons():
    report = examples.error_report()
    text = render(report)
    assert text.startswith("### ❌ optkit: No candidate passed the gate; quantize-static has the best score")
    assert "- quantize-dynamic: the worker ended with signal 9" in text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("<b>", "&lt;b&gt;"),
        ("[a](b)", r"\[a\](b)"),
        ("@team see #12", "@\u200bteam see #\u200b12"),
    ],
)
def test_escape(raw, shown):
    assert escape(raw) == shown


def test_a_fence_cannot_be_closed_from_inside():
    report = examples.full_report()
    report.command = "echo ```\n# heading"
    assert "````sh\necho ```\n# heading" in render(report)
