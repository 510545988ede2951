"""Whatever the strings of a report are: each format stays well-formed, and nothing in it runs."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import example, given, settings
from hypothesis import strategies as st

from optkit.report.charts.figures import clean
from optkit.report.model import Report, render
from tests.report import examples

_PIECES = (
    *(
        "]]>",
        "<!--",
        "-->",
        "</script>",
        "<script>alert(1)</script>",
        "<img src=x onerror=a()>",
        "&lt;",
        "&#60;",
    ),
    *(
        "${HOME}",
        "$(id)",
        "`id`",
        "```",
        "~~~",
        "\\",
        "\\n",
        "\\\\",
        '"',
        "'",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\x00",
    ),
    *(
        "\x1b[31m",
        "\x07",
        "\x85",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\ud800",
        "\ufffe",
        "\ufeff",
        "|",
        "||",
    ),
    *(
        "=cmd|'/C calc'!A0",
        "+1",
        "-1",
        "@SUM(1)",
        "＝1+1",
        "# h",
        "> q",
        "- x",
        "1. x",
        "===",
        "---",
        "[a](b)",
    ),
    *(
        "![a](b)",
        "@me",
        "#12",
        "<b>",
        "*",
        "_",
        ",",
        ";",
        ":",
        " ",
        "{{ x }}",
        "{% x %}",
        "%s",
        "{0}",
        "漢",
        "ünï",
        "0",
    ),
)
texts = st.lists(st.one_of(st.sampled_from(_PIECES), st.characters()), max_size=12).map("".join)
every = settings(max_examples=40)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    handle_startendtag = handle_starttag


HARMLESS = Tags(render(examples.hostile_report("plain"), "html"))


@every
@given(texts)
@example("<script>alert(1)</script>")
def test_html_has_the_same_tags_as_with_a_plain_word(text):
    page = render(examples.hostile_report(text), "html")
    page.encode()
    found = Tags(page)
    assert set(found.tags) <= set(HARMLESS.tags)
    assert abs(len(found.tags) - len(HARMLESS.tags)) < 40  # a long name is broken into lines of its own
    assert not any(name.startswith("on") or name in ("src", "href", "srcset") for name in found.names)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)


@every
@given(texts)
@example("]]>")
def test_junit_is_xml_that_gives_every_text_back(text):
    report = examples.hostile_report(text)
    root = ElementTree.fromstring(render(report, "junit"))
    values = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert values["task"] == clean(text)
    assert [case.get("name") for case in root.iter("testcase")] == [
        clean(row.name) for row in report.rows[2:]
    ]
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property", "failure", "error", "system-out")
    }


@every
@given(texts)
@example("=cmd|'/C calc'!A0")
@example("\n=1")
@example(" \ufeff@SUM(1)")
def test_csv_holds_no_cell_that_a_spreadsheet_runs(text):
    report = examples.hostile_report(text)
    lines = list(csv.reader(io.StringIO(render(report, "csv"), newline="")))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) == 1 + sum(max(len(row.latency), 1) for row in report.rows)
    for line in lines:
        for cell in line:
            try:
                float(cell)
            except ValueError:
                bare = re.sub("^[\\s\ufeff\u200b-\u200f\u2060]+", "", cell)
                assert not bare.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")), cell
                assert not cell.startswith(("\t", "\r", "\n"))


@every
@given(texts)
@example("# h")
@example("===")
@example("| a |\n| b |")
def test_markdown_has_the_same_lines_as_with_a_plain_word(text):
    def outline(value: str) -> list[str]:
        """How the lines outside of code begin, and how many cells a row of a table has."""
        page = re.sub(
            r"(?ms)^(`{3,})\w*\n.*?^\1$", "code", render(examples.hostile_report(value), "markdown")
        )
        assert "<script" not in page
        assert not re.search(r"@\w|(?<!&)#\w", page.replace("####", ""))
        cells = re.compile(r"(?<!\\)(?:\\\\)*[|]")
        lines = page.split("\n")
        block = re.compile(r"#{1,6}(\s|$)|[-+*](\s|$)|>|\d{1,9}[.)](\s|$)|(=+|-+)\s*$")

        def kind(line: str) -> str:
            found = block.match(line)
            return (
                str(len(cells.findall(line)))
                if line.startswith("|")
                else found[0]
                if found
                else str(bool(line))
            )

        return [kind(line) for line in lines]

    assert outline(text) == outline("plain")


@every
@given(texts)
def test_json_gives_every_text_back(text):
    report = examples.hostile_report(text)
    assert json.loads(render(report, "json"))["task"] == text
    assert Report.from_dict(json.loads(render(report, "json"))).rows[0].name == report.rows[0].name
