"""What a person sees: progress on stderr while it runs, one table at the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from optkit.report.model import Report, Row


class Terminal:
    """A listener for `compress`: draws its events. A context manager around the work.

    On a terminal one live line; elsewhere plain lines, without colour; nothing when `quiet`.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._task: Any = None
        self._step = ""
        self._begun = time.monotonic()

    def __enter__(self) -> Terminal:
        if self._console.is_terminal and not self._quiet:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        if self._quiet:
            return
        kind = event["event"]
        if kind == "step":
            count = f" [{event['index']}/{event['total']}]" if event.get("total") else ""
            self._step = f"{event['name']}{count}"
            self._show("", None)
            if not self._progress:
                self._line(self._step)
        elif kind == "progress":
            self._show(event.get("text") or "", event.get("fraction"))
        elif kind == "row":
            self._line(row_line(event["row"]))
        elif kind == "note":
            self._line(event["text"])

    def result(self, report: Report, out: Path, json: bool = False) -> None:
        """The table and where the report is; with `json` the report itself on stdout instead."""
        if json:
            from optkit.report.model import render

            sys.stdout.write(render(report, "json"))
            return
        console = Console(highlight=False)
        console.print(result_table(report, console.width))
        for doubt in report.doubts:
            console.print(f"doubt: {doubt}", style="yellow")
        if report.chosen_row and report.gate.get("passed"):
            console.print(f"chosen: {report.chosen}, in {out}", soft_wrap=True)
        console.print(f"report: {out / 'report.html'}", soft_wrap=True)

    def _show(self, text: str, fraction: float | None) -> None:
        if self._progress:
            self._progress.update(
                self._task,
                description=f"{self._step}  {text}".strip(),
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
            )

    def _line(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._begun:6.1f} s  {text}", soft_wrap=True, markup=False)


def row_line(row: Row) -> str:
    """One row as a line of progress."""
    if row.verdict == "error":
        return f"{row.name}: error: {row.reasons[0].splitlines()[0] if row.reasons else ''}"
    speed = f", {row.speedup.value:.2f} times as fast" if row.speedup else ""
    return f"{row.name}: score {row.score:.4f}, {row.size_bytes / 1e6:.1f} MB{speed}, {row.verdict}"


def result_table(report: Report, width: int) -> Table:
    """The report's rows; columns that do not fit into `width` characters are left out."""
    shapes = [(x.batch, x.tokens) for x in report.rows[0].latency]
    shown = shapes if width >= 120 else shapes[:1]
    table = Table(title=f"{report.task}, {report.data['examples']} {report.data['split']} examples", box=None)
    table.add_column("model", no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column(report.metric, justify="right", no_wrap=True)
    if width >= 100:
        table.add_column("agrees", justify="right")
    for batch, tokens in shown:
        table.add_column(f"{batch}×{tokens}\nms", justify="right", no_wrap=True)
    table.add_column("speedup\n[95%]", justify="right", no_wrap=True)
    if width >= 100:
        table.add_column("peak\nMB", justify="right")
    table.add_column("verdict", no_wrap=True)
    for row in report.rows:
        cells = [row.name, f"{row.size_bytes / 1e6:.1f}", _score(row, report)]
        if width >= 100:
            cells.append(f"{row.agreement:.1%}")
        for shape in shown:
            found = row.at(*shape)
            cells.append(f"{found.p50_ms:.2f}" if found else "–")
        ratio = row.speedup
        cells.append(f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "–")
        if width >= 100:
            cells.append(f"{row.peak_rss_bytes / 1e6:.0f}")
        mark = " ←" if row.name == report.chosen else ""
        table.add_row(*cells, f"{row.verdict}{mark}")
    return table


def _score(row: Row, report: Report) -> str:
    return f"{row.score:.4f}" if row is report.rows[0] else f"{row.score:.4f} ({row.score_delta:+.4f})"
