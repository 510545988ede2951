"""The report as JUnit XML: one test case per judged row, so that any CI shows the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as xml

from optkit.report.charts.figures import clean, headline, known, shape_name, verdict
from optkit.report.model import Report, Row


def render(report: Report) -> str:
    """A suite with a test case for each row that passed, failed or ended in an error.

    Baselines and intermediate steps were not judged: their figures are properties of the suite.
    """
    judged = [row for row in report.rows if row.verdict in ("passed", "failed", "error")]
    counts: dict[str, Any] = {
        "tests": str(len(judged)),
        "failures": str(sum(row.verdict == "failed" for row in judged)),
        "errors": str(sum(row.verdict == "error" for row in judged)),
        "time": f"{report.seconds:.3f}" if known(report.seconds) else "0",
    }
    root = xml.Element("testsuites", name="optkit", **counts)
    suite = xml.SubElement(root, "testsuite", name=clean(f"optkit {report.task}"), **counts)
    if report.fidelity:
        root.set("name", clean(f"optkit: {report.fidelity}"))
    if report.created:
        suite.set("timestamp", clean(report.created))
    about: dict[str, Any] = {
        "task": report.task,
        "metric": report.metric,
        "target": report.target,
        "source": report.source,
    }
    about |= {f"data.{key}": value for key, value in report.data.items()}
    about |= {f"gate.{key}": value for key, value in report.to_dict()["gate"].items()}
    for row in report.rows:
        if row not in judged:
            about |= {f"{row.name}.{key}": value for key, value in _figures(report, row).items()}
    about |= {f"doubt.{i}": doubt for i, doubt in enumerate(report.doubts, 1)}
    _properties(suite, about)
    for row in judged:
        _case(suite, report, row)
    xml.SubElement(suite, "system-out").text = verdict(report)[1]
    xml.indent(root)
    after = " " if report.fidelity else "\n"  # what was measured stands in the first line
    return f'<?xml version="1.0" encoding="UTF-8"?>{after}' + xml.tostring(root, encoding="unicode") + "\n"


def _case(suite: xml.Element, report: Report, row: Row) -> None:
    seconds = f"{row.seconds:.3f}" if known(row.seconds) else "0"
    case = xml.SubElement(suite, "testcase", name=clean(row.name), classname="optkit.gate", time=seconds)
    _properties(case, _figures(report, row))
    if row.verdict == "passed":
        return
    message = clean("; ".join(row.reasons)) or f"{row.verdict}, no reason given"
    tag = "failure" if row.verdict == "failed" else "error"
    xml.SubElement(case, tag, message=message, type=f"optkit.{tag}").text = clean("\n".join(row.reasons))


def _figures(report: Report, row: Row) -> dict[str, Any]:
    latency = headline(report, row)
    figures: dict[str, Any] = {
        "verdict": row.verdict,
        "runtime": row.runtime,
        "precision": row.precision,
        "score": row.score,
        "score_delta": row.score_delta,
        "agreement": row.agreement,
        "size_bytes": row.size_bytes,
        "peak_rss_bytes": row.peak_rss_bytes,
    }
    figures |= {
        f"fidelity.{key}": value for key, value in row.fidelity.items() if isinstance(value, (int, float))
    }
    if row.drop is not None:
        figures |= {"drop_low": row.drop.low, "drop_high": row.drop.high}
    if latency is not None:
        figures[f"p50_ms {shape_name(latency.batch, latency.tokens)}"] = latency.p50_ms
    if row.speedup is not None:
        figures |= {
            "speedup": row.speedup.value,
            "speedup_low": row.speedup.low,
            "speedup_high": row.speedup.high,
        }
    return {key: value for key, value in figures.items() if isinstance(value, str) or known(value)}


def _properties(parent: xml.Element, values: Mapping[str, Any]) -> None:
    properties = xml.SubElement(parent, "properties")
    for name, value in values.items():
        xml.SubElement(properties, "property", name=clean(name), value=clean(value))
