"""Two reports on the same data: did this change cost accuracy or speed?

Where both reports say which examples were answered right, accuracy is compared in pairs. Speed is
compared by each report's own speedup over its first row, so that a slower machine, or a busier hour,
cancels; only a slowdown that the intervals show counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import exp, isnan, log, nan, sqrt
from pathlib import Path

import numpy as np

from optkit.benchmarking.accuracy import paired_drop
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.latency import UNSTABLE
from optkit.benchmarking.statistics import difference_shown
from optkit.core.quantities import DROP
from optkit.errors import DataError, GateFailed
from optkit.report.interval import Interval
from optkit.report.model import Report, Row, quality


@dataclass(frozen=True)
class Comparison:
    """`row` of a report against `before` of a baseline report.

    `drop` is the loss in the metric, with its 95% interval from the same examples answered by both (NaN
    where the reports do not say which were right). `speed` is the new speedup over the old one with its
    interval (None where one has none); below 1 is slower. `reasons` say why it fails; none: it
    passes. `doubts` say what a pass does not promise. Where only fidelity was measured, `metric` is
    "agreement", and `score` that of `quality`.
    """

    row: Row
    before: Row
    metric: str
    drop: Interval
    speed: Interval | None
    reasons: list[str]
    doubts: list[str]

    @property
    def passed(self) -> bool:
        return not self.reasons


def gate(
    report: str | Path | Report,
    baseline: str | Path | Report,
    *,
    max_drop: str | float | None = "1%",
    max_slowdown: str | float | None = "5%",
    row: str | None = None,
    allow_other_data: bool = False,
) -> Comparison:
    """Compare a report with the one kept from the main branch, for CI.

    Only a slowdown that the intervals show counts.

    Parameters:
        report: the new report, or its report.json.
        baseline: the report kept from the main branch.
        max_drop: the most the score may drop: "1%" (relative) or 0.01 (absolute). None: any will do.
        max_slowdown: the most that the speedup may shrink, a share such as "5%". None: any will do.
        row: the row to compare. None: the chosen one.
        allow_other_data: compare all the same.

    Returns what changed, and in `passed` and `reasons` whether that is allowed. What a limit speaks of and
    one of the rows lacks is a reason to fail.

    Raises DataError where the reports measured something else or are on different data, RecipeError for a
    limit that is no share.

    >>> import optkit
    >>> optkit.gate("new/report.json", baseline="main/report.json").passed
    True
    """
    report, baseline = (x if isinstance(x, Report) else Report.load(Path(x)) for x in (report, baseline))
    require_same_kind(report, baseline)
    if not allow_other_data:
        require_same_data(report, baseline)
    now, before = _row(report, row, "report"), _row(baseline, row, "baseline")
    metric = "agreement" if report.fidelity else report.metric
    limit = Gate.parse(max_drop if metric else None)
    slowdown = None if max_slowdown is None else DROP.percentage(max_slowdown, "--max-slowdown")
    same = report.data.get("sha256") == baseline.data.get("sha256")
    speed, drop = _quotient(now.speedup, before.speedup), _drop(before, now, same)
    reasons, doubts = [], []
    limits = {
        f"--max-drop: {metric}": limit.max_drop is not None,
        "--max-slowdown: speedup": slowdown is not None,
    }
    for which, one, its in (("report", now, report), ("baseline", before, baseline)):
        absent = {
            f"--max-drop: {metric}": not math.isfinite(quality(one)),
            "--max-slowdown: speedup": not _sound(one.speedup),
        }
        lacks = [name for name, asked in limits.items() if asked and absent[name]]
        if any(limits.values()) and not _examples(its):
            lacks.append("examples")
        if lacks:
            reasons.append(
                f"nothing was compared: {one.name} of the {which} has no value for "
                f"{' and none for '.join(lacks)}"
            )
    if not reasons:
        reasons += limit.drop_reasons(
            drop.value, quality(before), "agreement" if report.fidelity else "score"
        )
    if not reasons:
        doubts += limit.drop_doubts(drop, quality(before), len(now.outcomes))
    for one in (now, before):
        if one.verdict == "error":
            reasons.append(f"{one.name} has no result: {one.reasons[0] if one.reasons else 'error'}")
    if speed is not None and slowdown is not None:
        slower, unseen = _slower(now.name, speed, slowdown)
        reasons, doubts = reasons + slower, doubts + unseen
    doubts += [f"The new report says: {doubt}" for doubt in report.doubts if doubt == UNSTABLE]
    doubts += [f"The baseline says: {doubt}" for doubt in baseline.doubts if doubt == UNSTABLE]
    return Comparison(now, before, metric, drop, speed, reasons, doubts)


def require_same_kind(report: Report, other: Report) -> None:
    """DataError where the two measured different things: then no figure of one speaks of the other."""
    pairs = [
        ("what was measured", *("fidelity" if r.fidelity else "accuracy" for r in (report, other))),
        ("task", report.task, other.task),
        ("metric", report.metric, other.metric),
    ]
    for name, a, b in pairs:
        if a != b:
            raise DataError(
                f"The reports do not compare: {name} is {a!r} in one and {b!r} in the other.",
                hint="Make both reports by the same command, with --data and --metric as in the other.",
            )


def require_same_data(report: Report, other: Report) -> None:
    """DataError that names the first thing in which the two differ: data, split or size."""
    if (report.metric or report.fidelity) and not report.data.get("sha256"):
        raise DataError(
            "The reports do not say which data they are on: sha256 is missing.",
            hint="Run the command again with this version of optkit, or give --allow-other-data knowingly.",
        )
    for name in ("sha256", "split", "examples"):
        a, b = report.data.get(name), other.data.get(name)
        if a != b:
            raise DataError(
                f"The reports are on different data: {name} is {a!r} in one and {b!r} in the other.",
                hint="Compare like with like, or give --allow-other-data knowingly.",
            )


def merge(reports: list[Report]) -> Report:
    """The rows of several reports on the same data and the same first row, in one report.

    A name that occurs twice keeps its first row. Nothing is chosen: no gate spoke about all of them.
    """
    first = reports[0]
    rows = {row.name: row for row in reversed([r for report in reports for r in report.rows])}
    for other in reports[1:]:
        require_same_kind(first, other)
        require_same_data(first, other)
        if other.baseline.name != first.baseline.name:
            raise DataError(
                f"Expected reports with the same first row, received {first.baseline.name!r} "
                f"and {other.baseline.name!r}: their speedups do not compare."
            )
    order = list(dict.fromkeys(row.name for report in reports for row in report.rows))
    doubts = [
        "These rows were timed in different runs; only speedups over the first row compare.",
        *dict.fromkeys(doubt for report in reports for doubt in report.doubts),
    ]
    merged = Report.from_dict(first.to_dict())
    merged.rows, merged.chosen, merged.gate, merged.doubts = [rows[n] for n in order], None, None, doubts
    merged.winners = []  # times of different runs do not compare
    return merged


def markdown(comparison: Comparison, judged: bool = True) -> str:
    """The comparison as a short table for a pull request or a job's summary; with its verdict if `judged`."""
    from optkit.report.markdown import escape

    now, before, speed = comparison.row, comparison.before, comparison.speed
    shown = speed is not None and difference_shown(speed)
    title = f"optkit: {escape(now.name)}"
    if judged:
        title = f"✅ {title} passes" if comparison.passed else f"❌ {title} fails"
    lines = [
        f"### {title}",
        "",
        "| | baseline | this change |",
        "| --- | ---: | ---: |",
        f"| {escape(comparison.metric) or 'score'} | {_score(comparison, before)} "
        f"| {_score(comparison, now)}{_change(comparison.drop) if comparison.metric else ''} |",
        f"| speedup over the first row | {_shown(before.speedup)} | {_shown(now.speedup)} |",
        f"| size, MB | {before.size_bytes / 1e6:.1f} | {now.size_bytes / 1e6:.1f} |",
        "",
        f"Speed against the baseline: {_shown(speed)}" + ("" if shown else ", no difference shown"),
        *(f"- {escape(reason)}" for reason in comparison.reasons),
        *(f"- doubt: {escape(doubt)}" for doubt in comparison.doubts),
    ]
    return "\n".join(lines) + "\n"


def require_passed(comparison: Comparison) -> None:
    if not comparison.passed:
        raise GateFailed("; ".join(comparison.reasons) + ".")


def _row(report: Report, name: str | None, which: str) -> Row:
    name = name or report.chosen
    names = ", ".join(r.name for r in report.rows)
    if name is None:
        raise DataError(f"The {which} has no chosen row.", hint=f"Name one with --row: {names}.")
    try:
        return report.row(name)
    except KeyError:
        raise DataError(f"The {which} has no row {name!r}; it has: {names}.") from None


def _quotient(now: Interval | None, before: Interval | None) -> Interval | None:
    """now / before with its interval, taking the two as independent and normal in the logarithm."""
    if not (_sound(now) and _sound(before)):
        return None
    assert now is not None
    assert before is not None
    middle = log(now.value / before.value)
    half = sqrt(sum((log(x.high / x.low) / 2) ** 2 for x in (now, before)))
    return Interval(exp(middle), exp(middle - half), exp(middle + half))


def _score(comparison: Comparison, row: Row) -> str:
    from optkit.report.charts import figures

    return figures.score(quality(row) if comparison.metric else None)


def _sound(speed: Interval | None) -> bool:
    """Whether it is a ratio with an interval around it: NaN would make every condition false."""
    return speed is not None and 0 < speed.low <= speed.value <= speed.high < math.inf


def _examples(report: Report) -> int:
    """On how many examples it rests; 0 where it does not say."""
    count = report.data.get("examples")
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0


def _slower(name: str, speed: Interval, allowed: float) -> tuple[list[str], list[str]]:
    """Why `name` is too slow, and the doubt where the interval is too wide to see a slowdown of `allowed`."""
    if speed.high < 1 - allowed:
        reason = f"{name} is slower: {speed.value:.2f} times the speedup it had, at most {speed.high:.2f}; "
        return [f"{reason}allowed is {1 - allowed:.2f}"], []
    if speed.high - speed.low <= allowed * speed.value:
        return [], []
    least = 1 - (1 - allowed) * speed.value / speed.high
    doubt = (
        f"A slowdown just beyond the {allowed:.3g} allowed could not have been seen: the joint 95% interval "
    )
    doubt += f"is [{speed.low:.2f}, {speed.high:.2f}], so that only one beyond {least:.2f} would have failed."
    return [], [doubt]


def _drop(before: Row, now: Row, same: bool) -> Interval:
    """The loss from `before` to `now`, paired where both say which of the `same` examples were right."""
    a, b = (np.array(list(row.outcomes)) == "1" for row in (before, now))
    if same and len(a) and len(a) == len(b):
        paired = paired_drop(a, b)
        return Interval(paired.drop, paired.low, paired.high)
    return Interval(quality(before) - quality(now), nan, nan)


def _change(drop: Interval) -> str:
    """ " (-0.0034, paired [-0.0126, +0.0046])": the drop as a change of the score."""
    if isnan(drop.value):
        return ""
    if isnan(drop.low):
        return f" ({0 - drop.value:+.4f}, not paired)"
    return f" ({0 - drop.value:+.4f}, paired [{0 - drop.high:+.4f}, {0 - drop.low:+.4f}])"


def _shown(ratio: Interval | None) -> str:
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "–"
