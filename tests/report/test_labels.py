"""Scores by label: in the page, as tables of their own, and through a file."""

from __future__ import annotations

import json

from optkit.report.model import Report, render
from optkit.report.scores import columns_of
from tests.report import examples

LINES = [
    {"label": "B-person|x", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 4},
    {"label": "micro", "precision": 0.25, "recall": 0.125, "f1": 1 / 6, "support": 1234},
]


def test_each_row_has_its_table_and_one_without_says_so():
    report = examples.full_report()
    report.rows[1].table = LINES
    report = Report.from_dict(json.loads(render(report, "json")))
    assert report.rows[1].table == LINES
    text = render(report, "labels")
    assert "| label | precision | recall | f1 | support |\n| --- | ---: | ---: | ---: | ---: |" in text
    assert "| B-person\\|x | 0.5000 | 1.0000 | 0.6667 | 4 |" in text
    assert text.count("no scores by label") == len(report.rows) - 1
    page = render(report, "html")
    assert "Scores by label" in page
    assert "<td>0.6667</td>" in page
    assert "Scores by label" not in render(examples.full_report(), "html")


def test_as_text_columns_stand_below_their_heads():
    head, *lines = columns_of(LINES)
    ends = [head.index(name) + len(name) for name in ("precision", "support")]
    assert [[line[:end].split()[-1] for end in ends] for line in lines] == [
        ["0.5000", "4"],
        ["0.2500", "1234"],
    ]
    assert list(columns_of([])) == []
