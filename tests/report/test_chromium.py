"""The page in a real browser: it never scrolls sideways, at a phone's width or at a desk's."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from optkit.report.html import render
from tests.report import examples

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--allow-file-access-from-files", "--virtual-time-budget=5000", "--window-size=1400,900"),
)
REPORTS = {
    "full": examples.full_report,
    "minimal": examples.minimal_report,
    "error": examples.error_report,
    "hostile": examples.hostile_report,
    "eight": lambda: examples.many_rows(8),
}
WIDTHS = (390, 700, 1280)
# Headless Chromium has a least window width, so each page lies in a frame of the width to test. The
# wrapper measures from outside: the report itself holds no script, and its policy forbids any.
_MEASURE = """<pre id="out"></pre><script>
onload = () => {
  const measure = (frame) => {
    const page = frame.contentDocument.documentElement;
    return [frame.name, page.clientWidth, page.scrollWidth].join(" ");
  };
  const found = [...document.querySelectorAll("iframe")].map(measure);
  document.getElementById("out").textContent = found.join("\\n");
};</script>"""
_FRAME = '<iframe name="{0}-{1}" width="{1}" height="800" style="border:0" src="{0}.html"></iframe>'


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
def test_the_page_does_not_scroll_sideways(tmp_path: Path):
    frames = ""
    for name, make in REPORTS.items():
        text = render(make()).replace("<details>", "<details open>")
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        frames += "".join(_FRAME.format(name, width) for width in WIDTHS)
    (tmp_path / "measure.html").write_text(frames + _MEASURE, encoding="utf-8")
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "measure.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.findall(r"([a-z]+)-(\d+) (\d+) (\d+)", done.stdout)
    assert len(found) == len(REPORTS) * len(WIDTHS), done.stderr[-2000:]
    wide = [x for x in found if int(x[3]) > int(x[1])]
    assert wide == []
