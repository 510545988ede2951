from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from optkit.benchmarking.latency import UNSTABLE
from optkit.report.charts import figures
from optkit.report.facts import Scenario
from optkit.report.html import render
from optkit.report.interval import Interval
from tests.report import examples

REPORTS = [
    examples.full_report,
    examples.minimal_report,
    examples.error_report,
    examples.hostile_report,
    lambda: examples.many_rows(8),
]
VOID = {"meta", "line", "rect", "circle", "path", "br"}


class Page(HTMLParser):
    """Collects elements, attributes and ids, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.mark.parametrize("make", REPORTS)
def test_is_well_formed_and_refers_to_nothing_outside(make):
    page = Page(render(make()))
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "base", "a", "use"} & set(page.tags)
    assert not {"src", "href", "srcset", "action", "style"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]


@pytest.mark.parametrize("make", [examples.full_report, examples.minimal_report, examples.error_report])
def test_text_holds_no_reference(make):
    text = render(make())
    assert not re.search(r"https?://|src=|@import|url\(", text)


def test_a_chart_is_announced_and_ids_are_unique():
    page = Page(render(examples.full_report()))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {word for value in page.values("aria-labelledby") for word in value.split()} == set(ids)
    assert page.tags.count("svg") == page.values("role").count("img") == 2 + 2 + 5 + 2


def test_tables_have_scopes_and_headings_do_not_skip():
    page = Page(render(examples.full_report()))
    assert set(page.values("scope")) == {"col", "row", "colgroup"}
    assert page.tags.count("th") == len(page.values("scope"))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_missing_figures_are_dashes():
    text = render(examples.error_report())
    row = text[text.index("<b>quantize-dynamic</b>") :]
    assert row[: row.index("</tr>")].count("<span>–") == 6 + 5


def test_percentiles_have_their_intervals_and_may_be_open():
    report = examples.full_report()
    report.rows[0].latency[0].p99 = Interval(9.0, 8.0, math.nan)
    assert "<small>[8.00, …]</small>" in render(report)


def test_the_first_screen_says_that_the_times_are_not_to_be_trusted():
    report = examples.full_report()
    assert "busy" not in render(report)
    report.doubts.insert(0, UNSTABLE)
    text = render(report)
    assert text.count("do not trust the times.</h1>") == 1
    assert '<header class="unstable">' in text
    assert "Speedup (unstable)" in text


def test_memory_on_a_gpu_is_shown_where_there_is_some():
    report = examples.full_report()
    assert "first answer ms" in render(report)
    assert "MiB on the GPU" not in render(report)
    report.rows[1].gpu = {"process_memory_mib": 512.0}
    text = render(report)
    assert "MiB on the GPU" in text
    assert "<td>512</td>" in text


def test_flips_are_grouped_by_label_and_sorted_by_confidence():
    report = examples.full_report()
    report.rows[3].flips = []
    text = render(report)
    assert "9 changed; 6 became wrong, 3 became right" in text
    groups = re.split(r"<h3>True label", text)[1:]
    assert [re.search("<bdi>(.*?)</bdi>", group)[1] for group in groups] == ["negative", "positive"]
    for group in groups:
        shares = [int(x) for x in re.findall(r"→ <bdi>\w+</bdi> (\d+)%", group)]
        assert shares == sorted(shares, reverse=True)


def test_says_when_not_all_flips_are_there():
    report = examples.full_report()
    report.rows[2].agreement = 0.5
    assert "436 changed, 9 shown" in render(report)


def test_no_win_inside_the_noise():
    report = examples.full_report()
    report.rows[2].speedup = replace(report.rows[2].speedup, low=0.9)
    assert "no difference in speed from torch-fp32 shown" in render(report)


def test_a_change_inside_the_noise_is_gray():
    report = examples.full_report()
    assert 'class="bar better"' in render(report)
    for row in report.rows[1:]:
        row.drop, row.speedup, row.parent = (
            Interval(0.001, -0.01, 0.01),
            Interval(1.1, 0.9, 1.3),
            report.rows[0].name,
        )
    page = render(report)
    assert 'class="bar unsure"' in page
    assert 'class="bar better"' not in page
    assert 'class="bar worse"' not in page


def test_what_only_a_scenario_measured_is_not_in_the_summary():
    report = examples.full_report()
    assert figures.summary_shapes(report) == figures.shapes(report)
    for row in report.rows:
        row.latency.append(replace(row.latency[0], tokens="stream"))
    assert (1, "stream") in figures.shapes(report)
    assert (1, "stream") not in figures.summary_shapes(report)


def test_scenarios_stand_beside_each_other():
    report = examples.full_report()
    one = Scenario("offline", "examples per second", 7.0, 10, 1.0, True)
    for row in report.rows:
        row.scenarios = [one, replace(one, scenario="server")]
    page = render(report)
    found = re.findall(r'<th scope="row">(offline|server)</th>', page)
    assert found == ["offline"] * len(report.rows) + ["server"] * len(report.rows)


def test_models_that_were_only_measured_have_no_steps():
    report = examples.full_report()
    assert "<h2>Steps</h2>" in render(report)
    for row in report.rows:
        row.notes, row.seconds = {}, 0.0
    assert "<h2>Steps</h2>" not in render(report)


def test_dark_mode_contrast():
    """Ink, muted text and the two signal colours reach 4.5:1 on page and card (WCAG AA)."""
    style = render(examples.minimal_report())
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block))
        for front in ("ink", "muted", "good", "bad"):
            for back in ("page", "card"):
                assert contrast(colour[front], colour[back]) >= 4.5, (front, back)
        assert contrast(colour["good"], colour["good-soft"]) >= 4.5
        assert contrast(colour["bad"], colour["bad-soft"]) >= 4.5
        assert contrast(colour["muted"], colour["good-soft"]) >= 4.5


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2.2, section "contrast ratio"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_pictures_stand_beside_what_changed_and_their_words_stay_words():
    report = examples.full_report()
    picture = {"caption": "<b>this model</b>", "jpeg": "/9j/AA=="}
    key = [{"color": "#00ff00", "label": "<i>cat</i>"}]
    flip = {**report.rows[3].flips[0], "reference": None, "pictures": [picture], "key": key}
    report.rows[2].flips, report.rows[3].flips = [], [flip]
    text = render(report)
    assert '<img src="data:image/jpeg;base64,/9j/AA==" alt="&lt;b&gt;this model&lt;/b&gt;"' in text
    assert 'style="fill:#00ff00"' in text
    assert "&lt;i&gt;cat&lt;/i&gt;" in text
    assert "img-src data:" in text
    assert ">changed</span>" in text
    assert "True label" not in text
    assert "became" not in text
