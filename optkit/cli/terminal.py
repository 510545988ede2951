"""What a person sees: progress on stderr while it runs, one table at the end."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from optkit.core.files import plain
from optkit.errors import GateFailed
from optkit.events import Event, Note, Progress, RowDone, Saved, Step

if TYPE_CHECKING:
    from optkit.report.model import Report, Row


#: The longest silence without a terminal, in seconds.
SILENCE_S = 30.0


class Terminal:
    """Draws the events of a verb. A context manager around the work.

    On a terminal one live line; elsewhere plain lines, without colour; nothing when `quiet`. Where nothing was
    printed for `SILENCE_S`, a line says what is done, for how long, and how far it is: a CI log stays alive,
    whatever the work is and in whatever process.
    """

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._printed = self._step_begun = clock()
        self._seen: tuple[str, float | None] = ("", None)
        self._share_begun: tuple[float, float] | None = None
        self._console = Console(stderr=True, highlight=False)
        self._progress: progress.Progress | None = None
        self._task = progress.TaskID(0)
        self._step = ""
        self._begun = clock()
        #: The folder that the verb has written.
        self.saved: Path | None = None

    def __enter__(self) -> Terminal:
        if self._console.is_terminal and not self._quiet:
            self._progress = progress.Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("starting", total=None)
        elif not self._quiet:
            threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._progress:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Saved):
            self.saved = event.path
        if self._quiet:
            return
        match event:
            case Step(name, index, total):
                self._step, self._step_begun = f"{name} [{index}/{total}]" if total else name, self._clock()
                self._seen, self._share_begun = ("", None), None
                self._show("", None)
                if not self._progress:
                    self._line(self._step)
            case Progress(text, fraction):
                self._note(text, fraction)
                self._show(text, fraction)
            case RowDone(row):
                self._line(row_line(row))
            case Note(text):
                self._line(text)

    def result(self, report: Report, out: Path | None, json: bool = False) -> None:
        """The tables and where the report is; with `json` the report itself on stdout instead."""
        if json:
            from optkit.report.model import render

            sys.stdout.write(render(report, "json"))
            return
        console = Console(highlight=False)
        if report.fidelity:
            text = f"{report.fidelity[:1].upper()}{report.fidelity[1:]}."
            console.print(text, soft_wrap=True, markup=False, style="bold")
        console.print(result_table(report, console.width))
        if any(row.scenarios for row in report.rows):
            for line in scenario_lines(report):
                console.print(line, soft_wrap=True, markup=False)
        if report.why:
            console.print(f"why: {report.why}", soft_wrap=True, markup=False)
        for doubt in report.doubts:
            console.print(f"doubt: {doubt}", style="yellow", markup=False)
        if report.chosen_row and report.gate and report.gate.passed:
            console.print(f"chosen: {report.chosen}, in {out}", soft_wrap=True, markup=False)
        if out is not None:
            console.print(f"report: {out / 'report.html'}", soft_wrap=True, markup=False)

    def _show(self, text: str, fraction: float | None) -> None:
        if self._progress:
            self._progress.update(
                self._task,
                description=f"{self._step}  {text}".strip(),
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
            )

    def tick(self) -> None:
        """Print a line of progress where none was printed for `SILENCE_S`."""
        if self._clock() - self._printed >= SILENCE_S:
            self._line(self._where())

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            self.tick()

    def _note(self, text: str, fraction: float | None) -> None:
        """What was last heard, and since when shares grow, for the rate."""
        if fraction is not None and (self._share_begun is None or fraction < self._share_begun[1]):
            self._share_begun = (self._clock(), fraction)
        self._seen = (text, fraction)
        if not self._progress:
            self.tick()

    def _where(self) -> str:
        """What is done, how far it is, for how long, at what rate, and the time left at that rate."""
        (text, fraction), now = self._seen, self._clock()
        parts = [f"{self._step or 'working'}: {text or 'busy'}"]
        if fraction is not None:
            parts.append(f"{fraction:.0%}")
        parts.append(f"{now - self._step_begun:.0f} s so far")
        if fraction is not None and self._share_begun:
            since, share = self._share_begun
            if (done := fraction - share) > 0 and now > since:
                rate = done / (now - since)
                parts += [f"{60 * rate:.1%} a minute", f"about {(1 - fraction) / rate:.0f} s left"]
        return ", ".join(parts)

    def _line(self, text: str) -> None:
        with self._lock:
            self._printed = now = self._clock()
            self._console.print(f"{now - self._begun:6.1f} s  {plain(text)}", soft_wrap=True, markup=False)


def require_passed(report: Report, out: Path | None) -> None:
    """Raise GateFailed, which ends the command with its own exit code, where no candidate passed."""
    if report.gate and not report.gate.passed:
        raise GateFailed(
            f"No candidate passed the gate ({report.gate.conditions}).",
            hint=f"The report is in {out}"
            + ("; the best candidate is there too, marked as not passed." if report.chosen else "."),
        )


def row_line(row: Row) -> str:
    """One row as a line of progress."""
    if row.verdict == "error":
        return f"{row.name}: error: {' '.join(row.reasons).partition(chr(10))[0]}"
    speed = f", {row.speedup.value:.2f} times as fast" if row.speedup else ""
    score = "" if math.isnan(row.score) else f"score {row.score:.4f}, "
    if row.fidelity and not score:
        score = f"{row.fidelity['equal']} of {row.fidelity['texts']} answers the same, "
    return f"{row.name}: {score}{row.size_bytes / 1e6:.1f} MB{speed}, {row.verdict}"


def result_table(report: Report, width: int) -> Table:
    """The report's rows; what does not fit into `width` characters is left out, the least needed first."""
    columns = _columns(report)
    while _width(columns) > width and any(rank for rank, _ in columns):
        columns.remove(max(columns, key=lambda column: column[0]))
    title = f"{report.task}, {report.data['examples']} {report.data['split']} examples"
    if report.fidelity:
        title = f"{report.task}, {report.data['examples']} of {report.data['name']}"
    if not report.task:
        title = report.data["name"]
    table = Table(title=Text(title, style="italic"), box=None, pad_edge=False)
    spare = max(8, _widest(columns[0][1]) - max(0, _width(columns) - width))
    for _, cells in columns:
        table.add_column(
            Text(cells[0]),  # not a plain string: Rich would read [..] in it as markup
            justify="left" if cells[0] in ("model", "precision", "verdict") else "right",
            no_wrap=True,
            max_width=spare if cells[0] == "model" else None,
        )
    for row in zip(*(cells[1:] for _, cells in columns)):
        table.add_row(*map(Text, row))
    return table


def scenario_lines(report: Report) -> list[str]:
    """Each model's result in each scenario, a line each."""
    return [
        f"{x.scenario}: {row.name}: {'none' if x.value is None else f'{x.value:,.6g}'} {x.metric} "
        f"({x.queries} queries in {x.seconds:g} s; {x.notes})"
        for row in report.rows
        for x in row.scenarios
    ]


def _columns(report: Report) -> list[tuple[int, list[str]]]:
    """(rank, header and cells): 0 always stays, the highest rank goes first."""
    from optkit.report.model import shapes_of

    rows = report.rows
    mark = {True: " ←", False: ""}
    ratios = [r.speedup for r in rows]
    shapes = shapes_of(rows)
    columns: list[tuple[int, list[str]]] = [
        (0, ["model", *(r.name for r in rows)]),
        (8, ["precision", *(r.precision for r in rows)]),
        (3, ["MB", *(f"{r.size_bytes / 1e6:.1f}" for r in rows)]),
    ]
    if report.metric:
        columns += [
            (1, [report.metric, *(_score(r) for r in rows)]),
            (6, ["delta", *("–" if r is rows[0] else _signed(r.score_delta) for r in rows)]),
            (7, ["agrees", *("–" if r.verdict == "error" else f"{r.agreement:.1%}" for r in rows)]),
        ]
    if report.fidelity:
        fidelities = [r.fidelity for r in rows]
        columns += [
            (1, ["agrees", *(f"{x['agreement']:.1%}" if x else "–" for x in fidelities)]),
            (6, ["at least", *(f"{x['agreement_low']:.1%}" if x else "–" for x in fidelities)]),
            (7, ["moved\nat most", *(f"{x['largest_distance']:.3g}" if x else "–" for x in fidelities)]),
        ]
    for i, (batch, tokens) in enumerate(shapes):
        times = [r.at(batch, tokens) for r in rows]
        cells = [f"{x.p50_ms:.2f}" if x else "–" for x in times]
        columns.append((10 + i if i else 4, [f"{batch}×{tokens}\nms", *cells]))
    columns += [
        (2, ["speedup", *(f"{x.value:.2f}×" if x else "–" for x in ratios)]),
        (5, ["95%", *(f"{x.low:.2f}–{x.high:.2f}" if x else "–" for x in ratios)]),
        (9, ["peak\nMB", *(f"{r.peak_rss_bytes / 1e6:.0f}" if r.peak_rss_bytes else "–" for r in rows)]),
        (0, ["verdict", *(f"{r.verdict}{mark[r.name == report.chosen]}" for r in rows)]),
    ]
    return columns


def _width(columns: list[tuple[int, list[str]]]) -> int:
    return sum(_widest(cells) + 2 for _, cells in columns) - 2


def _widest(cells: list[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def _score(row: Row) -> str:
    return "–" if math.isnan(row.score) else f"{row.score:.4f}"


def _signed(number: float) -> str:
    return "–" if math.isnan(number) else f"{number:+.4f}"
