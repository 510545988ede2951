from __future__ import annotations

import csv
import io

from optkit.report.csv import COLUMNS, render
from tests.report import examples


def read(report):
    return list(csv.DictReader(io.StringIO(render(report))))


def test_one_line_per_row_and_shape():
    lines = read(examples.full_report())
    assert len(lines) == 4 * 5
    assert tuple(lines[0]) == COLUMNS
    line = next(x for x in lines if (x["name"], x["batch"], x["tokens"]) == ("quantize-dynamic", "1", "128"))
    assert float(line["speedup"]) == 31.7 / 9.4
    assert line["chosen"] == "yes"
    assert line["samples"] == "180"
    assert float(line["p50_low"]) < float(line["p50_ms"]) < float(line["p50_high"])
    assert line["p90_low"] == line["p99_high"] == ""  # not known
    assert line["padding"] == ""  # a fixed shape has none
    assert lines[0]["padding"] == "0.0125"
    assert (line["cold_ms"], line["gpu_mib"]) == ("7.5", "")


def test_a_row_without_latency_has_one_line_with_empty_cells():
    lines = [x for x in read(examples.error_report()) if x["name"] == "quantize-dynamic"]
    assert len(lines) == 1
    assert lines[0]["score"] == lines[0]["p50_ms"] == lines[0]["drop"] == ""
    assert "signal 9" in lines[0]["reasons"]


def test_a_cell_is_never_a_formula_and_numbers_stay_numbers():
    report = examples.full_report()
    report.rows[0].name = "=HYPERLINK(A1)"
    lines = read(report)
    assert lines[0]["name"] == "'=HYPERLINK(A1)"
    assert float(lines[-1]["score_delta"]) == -0.008


def test_newlines_and_quotes_survive():
    report = examples.full_report()
    report.rows[0].name = 'a "b"\nc'
    assert read(report)[0]["name"] == 'a "b"\nc'
