"""Reports built to harm given to every verb that reads one: a code of its own and one line, or text that
stays text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from optkit.report.model import render
from tests.hostile.inline import run
from tests.report import examples

NASTY = "]]></script><script>alert(1)</script>${HOME}`id`\\\"'\n\r\n=cmd|'/C calc'!A0\x1b[31m\u202e| a |"


def report(**changes):
    value = json.loads(render(examples.full_report(), "json"))
    return json.dumps({**value, **changes})


def row(**changes):
    value = json.loads(render(examples.full_report(), "json"))
    value["rows"][2] = {**value["rows"][2], **changes}
    return json.dumps(value)


FLIP = {"reference": None, "baseline": "a", "candidate": "b"}
HARMS = {
    "brackets": "[" * 100_000,
    "digits": '{"schema": ' + "9" * 10_000 + "}",
    "a list": "[]",
    "nothing": "",
    "no rows": report(rows=[]),
    "rows of numbers": report(rows=[1, 2]),
    "rows as an object": report(rows={"a": 1}),
    "an unknown key": report(evil=1),
    "another schema": report(schema="../x"),
    "a name that is none": row(name=["a"]),
    "a number of words": row(score="=1"),
    "a number beyond all": row(size_bytes=10**30),
    "latency that is none": row(latency=[{"batch": "x"}]),
    "samples that are none": row(latency=[[1]]),
    "probes that are none": row(probes={"int8": []}),
    "outcomes of letters": row(outcomes="ab"),
    "a picture that is none": row(flips=[{**FLIP, "pictures": [{"caption": "", "jpeg": 'x" onerror="y'}]}]),
    "a colour that is none": row(flips=[{**FLIP, "key": [{"color": "red;x:url(y)", "label": ""}]}]),
    "data that is none": report(data=[1]),
    "doubts that are none": report(doubts=[{"a": 1}]),
    "half of a pair": report(task="x").replace('"x"', '"\\ud800"', 1).replace("optkit.report/1", "\\ud800"),
}


@pytest.mark.parametrize("name", HARMS)
def test_is_refused_in_one_line(name, tmp_path, monkeypatch, capfd):
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text(HARMS[name])
    good.write_text(report())
    _refused(bad, good, tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda file: file.symlink_to("/dev/zero"),
        lambda file: file.symlink_to(file.name),
    ],
)
def test_what_is_no_file_is_refused(make, tmp_path, monkeypatch, capfd):
    make(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text(report())
    _refused(tmp_path / "bad.json", tmp_path / "good.json", tmp_path, monkeypatch, capfd)


def _refused(bad, good, place, monkeypatch, capfd):
    before = sorted(place.iterdir())
    for arguments in (
        ["gate", bad, "--baseline", good],
        ["gate", good, "--baseline", bad],
        ["report", "render", bad, "--format", "html", "--out", place / "out.html"],
        ["report", "compare", good, bad],
        ["report", "merge", good, bad, "--out", place / "out.json"],
    ):
        code = run(arguments, monkeypatch)
        said = capfd.readouterr().err
        assert code in (2, 5), (arguments, code, said)
        assert "Traceback" not in said
        assert [line.partition(":")[0] for line in said.splitlines()] in (["error"], ["error", "hint"]), said
        assert sorted(place.iterdir()) == before


def test_text_of_a_report_stays_text(tmp_path, monkeypatch, capfd):
    report = examples.hostile_report(NASTY)
    (tmp_path / "report.json").write_text(render(report, "json"))
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    for format in ("html", "junit", "csv", "markdown"):
        out = tmp_path / f"out.{format}"
        assert run(["report", "render", tmp_path, "--format", format, "--out", out], monkeypatch) == 0
        text = out.read_text()
        assert "\x1b" not in text
        assert format in ("csv", "markdown") or "<script>" not in text
    assert run(["gate", tmp_path / "report.json", "--baseline", tmp_path / "report.json"], monkeypatch) in (
        0,
        3,
        5,
    )
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "\x1b" not in said + (summary.read_text() if summary.exists() else "")
