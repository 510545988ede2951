"""What was measured → rows and a report; each is made once, when all that it holds is known."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from optkit.benchmarking.environment import describe
from optkit.benchmarking.evaluation import Evaluator, Model
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Shape
from optkit.benchmarking.roofline import Peak
from optkit.benchmarking.summaries import Bounds, latencies, padding
from optkit.benchmarking.timed_process import Measured
from optkit.benchmarking.unlabelled import Unlabelled
from optkit.core.artifact import library_versions
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.errors import OptkitError
from optkit.report.facts import Environment
from optkit.report.model import Answers, Report, Row
from optkit.runtimes.cuda.probe import Gpu

#: The scenario that the headline speedup and the gate speak of: one text at a time, real lengths.
HEADLINE = Shape(1, "data")


def row_of(
    model: Model,
    encoded: EncodedSet,
    measured: Measured | None = None,
    first: Measured | None = None,
    bounds: Bounds | None = None,
    **more: Any,
) -> Row:
    """The row of `model`, timed as `measured` beside `first`, on examples of the lengths of `encoded`.

    `more` are further fields of the row; what failed while it was timed has the verdict `error`.
    """
    answers, candidate = model.answers, model.candidate
    times = latencies(measured, None if measured is first else first, encoded, bounds) if measured else []
    headline = next((x for x in times if (x.batch, x.tokens) == (HEADLINE.batch, HEADLINE.tokens)), None)
    headline = headline or (times[0] if times else None)
    known: dict[str, Any] = {
        **vars(answers),
        "name": model.name,
        "artifact": str(candidate.artifact),
        "runtime": candidate.runtime or "",
        "latency": times,
        "speedup": headline.speedup if headline else None,
        "verdict": "measured",
        "parent": model.parent,
        **more,
    }
    if measured is not None:
        known |= {
            "load_ms": measured.load_ms,
            "cold_ms": measured.cold_ms,
            "load_rss_bytes": measured.load_rss_bytes,
            "peak_rss_bytes": max(answers.peak_rss_bytes, measured.peak_rss_bytes or 0),
            "gpu": measured.gpu,
        }
        if measured.error:
            known |= {"verdict": "error", "reasons": [measured.error]}
    return Row(**known)


def failed_row(name: str, error: OptkitError | None) -> Row:
    """The row of what could not be made or could not answer."""
    where: dict[str, Any] = {"name": name, "artifact": "", "runtime": "", "latency": [], "speedup": None}
    reasons = [] if error is None else [error.whole]
    return Row(**vars(Answers("", 0)), **where, verdict="error", reasons=reasons)


def doubts_of(rows: Iterable[Row]) -> list[str]:
    """What the comparison of the baselines with transformers left to say, and where attention is plain."""
    doubts = [doubt for row in rows for doubt in row.notes.get("reference", {}).get("doubts", ())]
    doubts += [
        f"{row.name}: attention is {row.notes['attention_note']}."
        for row in rows
        if row.notes.get("attention") == "plain" and "attention_note" in row.notes
    ]
    return list(dict.fromkeys(doubts))


def faster_than_possible(rows: Iterable[Row]) -> list[str]:
    """A doubt for each row that is faster at a shape than the machine's peaks allow."""
    doubts = []
    for row in rows:
        worst = max((x for x in row.latency if x.bound_share), key=lambda x: x.bound_share or 0, default=None)
        if worst is not None and worst.bound_share is not None and worst.bound_share > 1:
            doubts.append(
                f"{row.name} at {worst.batch}×{worst.tokens} is {worst.bound_share:.2f} times as fast as "
                "the measured peak allows: the probe was disturbed, or the model leaves work out."
            )
    return doubts


def report_of(
    evaluator: Evaluator,
    rows: Sequence[Row],
    measurement: Measurement,
    peaks: Peak | None,
    data: Data | Unlabelled | None,
    split: str,
    begun: float,
    gpu: Gpu | None = None,
    **more: Any,
) -> Report:
    """The report of `rows`; `begun` is when the command began, by `time.monotonic`.

    `gpu` is that of target cuda; `more` are further fields.
    """
    task, encoded = evaluator.task, evaluator.labelled.encoded
    about: dict[str, Any] = {
        "name": "random inputs",
        "split": "none",
        "examples": len(encoded),
        "truncated": 0,
    }
    if data is not None:
        about = {
            "name": data.name,
            "split": split,
            "held_out": data.is_held_out(split),
            "examples": len(evaluator.labelled.references),
            "sha256": data.fingerprint(split),
            "truncated": encoded.truncated,
            "padding": padding(encoded),
        }
    if task:
        said = [doubt for row in rows for doubt in task.doubts(row.name, row.table)]
        more["doubts"] = [*more.get("doubts", ()), *dict.fromkeys(said)]
    return Report(
        task=task.name if task else "",
        metric="" if task is None or evaluator.unlabelled else task.metric,
        data=about,
        target=evaluator.target,
        environment=Environment(
            **describe(evaluator.plan.threads),
            versions=library_versions(),
            measured_with=evaluator.plan.record(),
            peaks=asdict(peaks) if peaks else None,
            noise=measurement.noise,
            gpu=gpu.record() if gpu else None,
            transfers="included" if gpu else None,
        ),
        rows=list(rows),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=list(getattr(task, "labels", [])),
        seconds=round(time.monotonic() - begun, 1),
        **more,
    )
