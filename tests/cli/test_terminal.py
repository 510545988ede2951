"""What a person sees: lines of progress, and a table that fits."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from optkit.cli.terminal import Terminal, require_passed, result_table, row_line
from optkit.errors import GateFailed
from optkit.events import Note, Progress, RowDone, Step
from optkit.report.facts import Environment, GateResult
from optkit.report.interval import Interval
from optkit.report.model import Latency, Report, Row


def example(name: str = "quantize-dynamic") -> Report:
    def row(name: str, runtime: str, verdict: str, speedup: Interval | None, **changes) -> Row:
        times = [Latency(b, t, 20.0, 24.0, 40.0, [[20.0]]) for b, t in ((1, "data"), (1, 128), (8, 128))]
        values = {"score": 0.8807, "score_delta": 0.0, "agreement": 1.0, "latency": times} | changes
        return Row(
            name, "x", runtime, "fp32", 91_000_000, speedup=speedup, peak_rss_bytes=9 * 10**8, seconds=1,
            verdict=verdict, **values,
        )  # fmt: skip

    lost = {"score": math.nan, "score_delta": math.nan, "agreement": 0.0, "latency": []}
    rows = [
        row("torch-fp32", "torch", "baseline", None),
        row(name, "onnxruntime", "passed", Interval(3.71, 3.5, 3.9), score=0.8761, score_delta=-0.0046),
        row("quantize-static", "onnxruntime", "error", None, reasons=["boom [/x]\nmore"], **lost),
    ]
    data = {"name": "d", "split": "validation", "examples": 872, "sha256": "0"}
    return Report(
        "text-classification", "accuracy", data, "cpu", Environment(), rows, name, GateResult(passed=True)
    )


def drawn(report: Report, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(result_table(report, width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", range(30, 170, 5))
def test_at_any_width_a_row_is_one_whole_line(width):
    lines = drawn(example(), width)
    assert max(map(len, lines)) <= width
    for name, verdict in (
        ("torch-fp32", "baseline"),
        ("quantize-dynamic", "passed ←"),
        ("quantize-static", "error"),
    ):
        assert len([x for x in lines if x.startswith(name) and x.rstrip().endswith(verdict)]) == 1
    assert "…" not in "".join(lines)


def test_a_plain_terminal_shows_the_score_and_the_speedup_with_its_interval():
    text = "\n".join(drawn(example(), 80))
    for shown in ("0.8761", "-0.0046", "91.0", "20.00", "3.71×", "3.50–3.90"):
        assert shown in text


def test_a_wide_terminal_shows_every_shape_and_the_peak():
    text = "\n".join(drawn(example(), 160))
    for shown in ("1×data", "1×128", "8×128", "peak", "precision", "agrees"):
        assert shown in text


def test_a_model_with_a_very_long_name_is_cut_and_the_verdict_is_not():
    lines = drawn(example("x" * 100), 40)
    assert any(line.startswith("xxx") and "…" in line and "passed ←" in line for line in lines)


def test_what_was_not_measured_is_a_dash():
    line = next(x for x in drawn(example(), 160) if x.startswith("quantize-static"))
    assert "nan" not in line
    assert "0.0%" not in line


@pytest.mark.parametrize("name", ["prune[0.4]", "a[/b]", "[bold]c"])
def test_brackets_are_text_and_not_markup(name, capsys, tmp_path):
    assert name in "\n".join(drawn(example(name), 160))
    report = example(name)
    report.doubts = [f"doubt about {name}"]
    Terminal().result(report, tmp_path / name)
    assert f"doubt about {name}" in capsys.readouterr().out


def test_without_a_terminal_events_are_plain_lines_on_stderr(capsys):
    with Terminal() as terminal:
        terminal(Step("export-onnx", 1, 4))
        terminal(Progress("tracing [/x]", 0.5))
        terminal(Note("a [/note]"))
        terminal(RowDone(example().rows[1]))
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.split(" s  ", 1)[1] for line in err.splitlines()]
    assert lines == [
        "export-onnx [1/4]",
        "a [/note]",
        "quantize-dynamic: score 0.8761, 91.0 MB, 3.71 times as fast, passed",
    ]


def test_quiet_says_nothing(capsys):
    with Terminal(quiet=True) as terminal:
        terminal(Note("x"))
        terminal(RowDone(example().rows[1]))
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_progress_is_live_and_takes_any_text(monkeypatch):
    screen = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(file=screen, force_terminal=True, width=80)
    with terminal:
        terminal(Step("calibrate", 2, 4))
        terminal(Progress("layer [/0]", 0.5))
        terminal(Progress("no share known"))
        terminal._progress.refresh()
    assert "calibrate [2/4]  no share known" in screen.getvalue()


def test_an_error_row_is_its_first_line():
    row = example().rows[2]
    assert row_line(row) == "quantize-static: error: boom [/x]"
    row.reasons = [""]
    assert row_line(row) == "quantize-static: error: "


@pytest.mark.parametrize("chosen", ["quantize-dynamic", None])
def test_a_best_candidate_is_promised_only_where_there_is_one(chosen):
    report = example()
    report.chosen, report.gate = chosen, GateResult(conditions="no condition")
    with pytest.raises(GateFailed) as raised:
        require_passed(report, Path("out"))
    assert ("the best candidate is there too" in raised.value.hint) is (chosen is not None)


def test_silence_is_broken_every_thirty_seconds(capsys):
    """A fake clock; the heartbeat's thread is not needed for it."""
    now = [0.0]
    terminal = Terminal(clock=lambda: now[0])
    terminal(Step("fine-tuning x"))
    for second in range(1, 95):
        now[0] = float(second)
        terminal.tick()
    lines = [line.split(" s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["fine-tuning x", *(f"fine-tuning x: busy, {s} s so far" for s in (30, 60, 90))]


def test_a_line_of_progress_says_how_far_the_rate_and_the_time_left(capsys):
    now = [0.0]
    terminal = Terminal(clock=lambda: now[0])
    terminal(Step("fine-tuning x"))
    for second in range(0, 61, 5):
        now[0] = float(second)
        text = f"step {second}, loss 0.5"
        terminal(Progress(text, second / 600))
    lines = [line.split(" s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "fine-tuning x",
        "fine-tuning x: step 30, loss 0.5, 5%, 30 s so far, 10.0% a minute, about 570 s left",
        "fine-tuning x: step 60, loss 0.5, 10%, 60 s so far, 10.0% a minute, about 540 s left",
    ]


def test_the_heartbeat_ends_with_the_work_and_is_silent_when_quiet(capsys):
    now = [0.0]
    with Terminal(quiet=True, clock=lambda: now[0]) as quiet:
        now[0] = 100.0
        quiet(Progress("x", 0.5))
    with Terminal() as terminal:
        pass
    assert terminal._ended.is_set()
    assert capsys.readouterr() == ("", "")
