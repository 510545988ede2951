from __future__ import annotations

import html
import math
import re

import pytest

from optkit.report import charts
from optkit.report.charts import figures
from optkit.report.charts.scatter import pareto, points
from optkit.report.charts.svg import Axis, fit, width_of
from tests.report import examples

DRAWINGS = {
    "scatter wide": lambda report: charts.scatter(report, 860, 400),
    "scatter narrow": lambda report: charts.scatter(report, 360, 340),
    "waterfall latency": charts.waterfall_latency,
    "waterfall score": charts.waterfall_score,
    "distribution": lambda report: charts.distribution(report, 1, 128),
    "size": charts.size,
    "memory": charts.memory,
}


def labels(svg: str):
    """(text, left, top, right, bottom) of every label, with the width that the charts reckon with."""
    found = []
    for x, y, anchor, content in re.findall(
        r'<text x="(.*?)" y="(.*?)" text-anchor="(.*?)" class=".*?">(.*?)<', svg
    ):
        width = width_of(html.unescape(content))
        left = float(x) - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        found.append((content, left, float(y) - 9, left + width, float(y) + 3))
    return found


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
@pytest.mark.parametrize("spread", [1.0, 0.2, 0.01])
@pytest.mark.parametrize("count", range(2, 9))
def test_labels_do_not_overlap(draw, spread, count):
    found = labels(draw(examples.many_rows(count, spread)))
    assert len(found) > count
    for i, a in enumerate(found):
        for b in found[:i]:
            apart = a[1] >= b[3] or b[1] >= a[3] or a[2] >= b[4] or b[2] >= a[4]
            assert apart, (a, b)


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_error_rows_and_hostile_names_draw_finite_coordinates(draw):
    for make in (examples.error_report, examples.hostile_report, examples.minimal_report):
        svg = draw(make())
        assert "nan" not in svg
        assert "inf" not in svg
        assert "<script" not in svg


def test_nothing_to_draw_is_empty():
    report = examples.minimal_report()
    report.rows[0].latency, report.rows[0].score = [], math.nan
    report.rows[0].size_bytes = report.rows[0].peak_rss_bytes = 0
    assert [draw(report) for draw in DRAWINGS.values()] == [""] * len(DRAWINGS)


def test_pareto_front_is_what_no_other_point_beats():
    found = points(examples.full_report())
    assert [p.row.name for p in pareto(found)] == ["quantize-dynamic", "onnxruntime-fp32"]


def test_candidates_side_by_side_start_from_the_same_step():
    report = examples.full_report()
    dynamic, static = report.rows[2:]
    assert figures.step_before(report, dynamic) is figures.step_before(report, static) is report.rows[1]
    assert figures.step_before(report, report.rows[0]) is None


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0.9, 14, True), (3.3, 3.5, True), (0, 612, False), (0.87, 0.88, False)]
)
def test_ticks_lie_inside_the_axis(low, high, log):
    axis = Axis(low, high, 0, 100, log)
    ticks = axis.ticks(6)
    assert 2 <= len(ticks) <= 7
    assert all(0 <= axis.at(tick) <= 100 for tick in ticks)


def test_one_value_is_an_axis_too():
    assert 0 < Axis.over([0.5], 0, 100).at(0.5) < 100
    assert 0 < Axis.over([5.0], 0, 100, log=True).at(5.0) < 100


def test_fit_cuts_with_an_ellipsis():
    assert fit("quantize-dynamic", 200) == "quantize-dynamic"
    cut = fit("quantize-dynamic", 60)
    assert cut.endswith("…")
    assert width_of(cut) <= 60
    assert width_of("漢字") > width_of("ab")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.0123, "0.0123"),
        (9.996, "10.00"),
        (-12.34, "−12.3"),
        (1e6, "1,000,000"),
        (None, "–"),
        (math.inf, "–"),
    ],
)
def test_number(value, shown):
    assert figures.number(value) == shown
