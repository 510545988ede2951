"""How a figure is written: numbers, intervals, sizes and the sentence that sums a report up.

Every renderer writes the same number the same way. A missing or non-finite value is an en dash.
"""

from __future__ import annotations

import math
import re

from optkit.report.interval import Interval
from optkit.report.model import Latency, Report, Row, shapes_of

DASH = "–"
#: What XML 1.0 or UTF-8 cannot carry (control characters, lone surrogates, U+FFFE, U+FFFF), and the
#: controls that turn round the direction of all text after them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


#: Shapes that are no number of tokens, in words (`optkit.benchmarking.plan.KINDS`).
_TOKENS: dict[int | str, str] = {
    "data": "the data's own lengths",
    "text": "from text to answer, tokenizer included",
    "stream": "in the order of arrival",
    "all": "the whole data set",
}


def clean(value: object) -> str:
    """`value` as text that any format can carry; what cannot be printed becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", DASH if value is None else str(value))


def known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, never in exponent form.

    >>> number(0.91234), number(13.72), number(1043.2), number(float("nan"))
    ('0.912', '13.7', '1,043', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(places, 0), 6)}f}".replace("-", "−")


def score(value: float | None) -> str:
    return f"{value:.4f}".replace("-", "−") if value is not None and math.isfinite(value) else DASH


def signed(value: float | None) -> str:
    """A change in the metric with its sign: '−0.0034'."""
    if value is None or not math.isfinite(value):
        return DASH
    return "0.0000" if abs(value) < 5e-5 else f"{value:+.4f}".replace("-", "−")


def share(value: float | None, digits: int = 1) -> str:
    return f"{value:.{digits}%}" if value is not None and math.isfinite(value) else DASH


def megabytes(value: float | None, unit: str = "") -> str:
    """Bytes as decimal megabytes; 0 means that it was not measured.

    >>> megabytes(22_913_000), megabytes(22_913_000, " MB"), megabytes(0, " MB")
    ('22.9', '22.9 MB', '–')
    """
    return number(value / 1e6) + unit if value and math.isfinite(value) else DASH


def milliseconds(value: float | None) -> str:
    return f"{number(value)} ms" if known(value) else DASH


def times(value: float | None) -> str:
    return f"{number(value)}×" if known(value) else DASH


def speedup(value: Interval | None) -> str:
    return times(value.value) if value else DASH


def speed_note(value: Interval | None) -> str:
    """The interval of a speedup, and that it shows nothing where it holds 1."""
    note = interval(value)
    return f"{note} no difference shown" if nothing_shown(value) else note


def interval(value: Interval | None) -> str:
    """'[0.94, 1.10]', or '' where there is none."""
    if value is None or not (known(value.low) and known(value.high)):
        return ""
    return f"[{number(value.low)}, {number(value.high)}]"


def bounds(value: Interval | None) -> str:
    """An interval that may be open at an end: '[4.1, …]'; '' where nothing is known."""
    if value is None or not (known(value.low) or known(value.high)):
        return ""
    low, high = (number(x) if known(x) else "…" for x in (value.low, value.high))
    return f"[{low}, {high}]"


def delta_interval(row: Row) -> str:
    """The paired interval of `row.drop`, turned round so that it speaks of the change in the score."""
    if row.drop is None or not (known(row.drop.low) and known(row.drop.high)):
        return ""
    return f"[{signed(-row.drop.high)}, {signed(-row.drop.low)}]"


def nothing_shown(speedup: Interval | None) -> bool:
    """Whether the interval of a ratio holds 1: then no difference in speed was shown."""
    return speedup is not None and speedup.low <= 1 <= speedup.high


def shapes(report: Report) -> list[tuple[int, int | str]]:
    """Every batch × tokens that some row was measured at, in the order of the report."""
    return shapes_of(report.rows)


def summary_shapes(report: Report) -> list[tuple[int, int | str]]:
    """`shapes` without those that only a scenario was measured at: its result has a table of its own."""
    measured = shapes(report)
    return [shape for shape in measured if shape[1] not in ("stream", "all")] or measured


def shape_name(batch: int, tokens: int | str) -> str:
    return clean(f"{batch} × {tokens}")


def headline_shape(report: Report) -> tuple[int, int | str] | None:
    """The shape that the headline speaks of: one text at its own length, else the first measured."""
    measured = shapes(report)
    return (1, "data") if (1, "data") in measured else (measured[0] if measured else None)


def headline(report: Report, row: Row) -> Latency | None:
    shape = headline_shape(report)
    return row.at(*shape) if shape else None


def shape_words(shape: tuple[int, int | str] | None) -> str:
    if shape is None:
        return "at no shape"
    texts = "one text at a time" if shape[0] == 1 else f"batches of {shape[0]}"
    return f"{texts}, {_TOKENS.get(shape[1], f'{clean(shape[1])} tokens')}"


def winners(report: Report) -> list[str]:
    """One line per shape: the fastest candidate there."""
    return [f"{x.shape}: {x.row} ({x.runtime}), {number(x.p50_ms)} ms" for x in report.winners]


def probes(report: Report) -> list[str]:
    """One line per INT8 row: what share of it ran in INT8, and whether answers depend on their batch."""
    lines = []
    for row in report.rows:
        clauses = []
        if int8 := row.probes.get("int8"):
            clauses.append(
                f"{int8['int8_multiplies']} of {int8['multiplies']} matrix multiplies ran in INT8 kernels, "
                f"{share(int8['time_share'])} of the kernels' time ({int8['provider']})"
            )
        if near := row.probes.get("neighbours"):
            clauses.append(
                f"padding moves an output by up to {number(near['padded'])} and other texts in the batch by "
                f"up to {number(near['batched'])}, of {number(near['largest_output'])}; "
                f"{near['flipped']} of {near['examples']} predictions change"
            )
        if clauses:
            lines.append(f"{row.name}: {'; '.join(clauses)}")
    return lines


def reasons(report: Report) -> list[str]:
    """One line per reason that a row failed for."""
    return [f"{row.name}: {reason}" for row in report.rows for reason in row.reasons]


def size_of_first(report: Report, row: Row) -> str:
    """The size as a share of the first row's."""
    first = report.rows[0].size_bytes
    return share(row.size_bytes / first if first and row.size_bytes else None, 0)


def step_before(report: Report, row: Row) -> Row | None:
    """The row that `row` was made from: its `parent`, else the nearest one before that is no candidate."""
    if row.parent is not None:
        return next((r for r in report.rows if r.name == row.parent), None)
    before = report.rows[: next(i for i, r in enumerate(report.rows) if r is row)]
    return next(
        (r for r in reversed(before) if r.verdict in ("baseline", "step")), before[0] if before else None
    )


def gate(report: Report) -> str:
    """The gate's conditions in words; "" where there is none."""
    return f"gate: {report.gate.conditions}" if report.gate and report.gate.conditions else ""


def padding(report: Report) -> str:
    """What building batches by length saves, in words; "" where the report does not say."""
    shares = report.data.get("padding")
    if not isinstance(shares, dict):
        return ""
    return (
        f"padding: {share(shares.get('by_length'))} of the token slots in batches built by length, "
        f"{share(shares.get('as_it_comes'))} in the data's own order"
    )


def verdict(report: Report) -> tuple[str, str]:
    """(`passed` | `failed` | `measured`, one sentence about the report).

    Where only fidelity was measured, it begins with that.
    """
    chosen, errors = report.chosen_row, [r for r in report.rows if r.verdict == "error"]
    if chosen is not None and (chosen.verdict == "passed" or (report.gate and report.gate.passed)):
        state, text = "passed", f"{chosen.name} passes the gate: {_compared(report, chosen)}."
    elif report.gate:
        state, text = "failed", "No candidate passed the gate"
        if chosen is not None:
            why = "; ".join(chosen.reasons)
            what = "agreement" if report.fidelity else "score"
            text += f"; {chosen.name} has the best {what}: {_compared(report, chosen)}" + (
                f" ({why})" if why else ""
            )
        text = text.rstrip(".") + "."
    else:
        state, text = "measured", _measured(report)
    if errors:
        text += f" Not measured because of an error: {', '.join(r.name for r in errors)}."
    if unstable(report):
        text += " The machine was busy: do not trust the times."
    if report.fidelity:
        text = f"{report.fidelity[:1].upper()}{report.fidelity[1:]}. {text}"
    return state, clean(text)


def fidelity(report: Report) -> list[str]:
    """Per row how many answers are the same, by length, and how far outputs moved."""
    lines = []
    for row in report.rows:
        near = row.fidelity
        if not near:
            continue
        parts = ", ".join(
            f"{x['tokens']} tokens {x['equal']} of {x['texts']} ({number(x['largest_distance'])})"
            for x in near["buckets"]
        )
        lines.append(
            f"{row.name}: {near['equal']} of {near['texts']} answers the same ({near['sameness']}), "
            f"{share(near['agreement'])} [{share(near['agreement_low'])}, "
            f"{share(near['agreement_high'])}]; outputs moved by {number(near['mean_distance'])} on "
            f"average, {number(near['largest_distance'])} at most; by length (most moved): {parts}"
        )
    return lines


def unstable(report: Report) -> bool:
    """Whether the machine was busy to the end: `optkit.benchmarking.latency.UNSTABLE` is among the doubts."""
    return any(doubt.startswith("UNSTABLE") for doubt in report.doubts)


def _measured(report: Report) -> str:
    count = len(report.rows)
    on = f"{report.data.get('examples', DASH)} examples" if report.metric else "random inputs"
    text = f"{count} model{'s' * (count != 1)} measured on {on}"
    rows = [r for r in report.rows[1:] if r.speedup is not None and known(r.speedup.value)]
    if not rows:
        return text + "."
    best = max(rows, key=lambda r: r.speedup.value if r.speedup else 0.0)
    return f"{text}; {best.name}: {_compared(report, best)}."


def _compared(report: Report, row: Row) -> str:
    first, parts = report.rows[0], []
    if row.speedup is not None and known(row.speedup.value):
        bounds = f"95% interval {number(row.speedup.low)} to {number(row.speedup.high)}"
        if nothing_shown(row.speedup):
            parts.append(f"no difference in speed from {first.name} shown ({bounds})")
        else:
            parts.append(f"{number(row.speedup.value)} times as fast as {first.name} ({bounds})")
    if report.metric:
        parts.append(f"{report.metric} {score(row.score)} ({signed(row.score_delta)})")
    if report.fidelity:
        parts.append(f"{share(row.agreement)} of the answers the same")
    if row.size_bytes and first.size_bytes:
        parts.append(f"{megabytes(row.size_bytes)} MB instead of {megabytes(first.size_bytes)}")
    return ", ".join(parts)
