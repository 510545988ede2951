"""One model → one report row: accuracy on the whole split, latency beside the baseline, memory, size.

Every model answers in a process that holds it alone; the harness under `bench/` owns the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.bench.accuracy import load_outputs, paired_drop, paired_drop_of
from optkit.bench.latency import Candidate, Measured, Plan, Shape, measure, speedup
from optkit.process import Child
from optkit.report.model import Interval, Latency, Row
from optkit.task import Labelled, Outputs, Task

#: The scenario that the headline speedup and the gate speak of: one text at a time, real lengths.
HEADLINE = Shape(1, "data")
#: Flips kept per row, the most confident first.
MAX_FLIPS = 200

Listener = Callable[[dict[str, Any]], None]


@dataclass
class Evaluator:
    """Measures models of one task on one labelled split.

    `encoded_file` is `labelled.encoded` on disk, for the worker processes; `folder` takes their outputs.
    """

    task: Task
    labelled: Labelled
    encoded_file: Path
    folder: Path
    plan: Plan
    listener: Listener = field(default=lambda event: None)

    def outputs(self, candidate: Candidate, key: str) -> tuple[Outputs, int]:
        """Raw outputs for every example, and the peak memory of the process that made them."""
        file = self.folder / f"outputs-{key}.npz"
        with Child("optkit.bench.worker", threads=self.plan.threads) as child:
            child.call(
                "load", artifact=candidate.artifact, runtime=candidate.runtime, options=candidate.options
            )
            child.call("attach", encoded=str(self.encoded_file))
            done = child.call("evaluate", out=str(file), batch_size=32, max_tokens=4096)
        return load_outputs(file), done["peak_rss_bytes"]

    def row(
        self,
        candidate: Candidate,
        key: str,
        baseline: Outputs | None,
        beside: Sequence[Candidate] = (),
    ) -> tuple[Row, dict[str, Measured]]:
        """Measure `candidate`, interleaved with `beside`, whose first member is the baseline.

        `baseline` holds the baseline's outputs; None: this row is the baseline.
        """
        self.listener({"event": "progress", "text": f"{candidate.name}: accuracy", "fraction": None})
        outputs, evaluate_rss = self.outputs(candidate, key)
        self.listener({"event": "progress", "text": f"{candidate.name}: latency", "fraction": None})
        measured = measure([*beside, candidate], self.encoded_file, self.plan, listener=self.listener)
        mine = measured[candidate.name]
        first = measured[beside[0].name] if beside else None
        artifact = Artifact.open(candidate.artifact)
        answers = self.task.answers(outputs)
        score = self.task.score(answers, self.labelled.references)
        row = Row(
            name=candidate.name,
            artifact=str(candidate.artifact),
            runtime=candidate.runtime or "",
            precision=artifact.precision,
            size_bytes=artifact.size_bytes,
            score=score,
            score_delta=0.0,
            agreement=1.0,
            latency=latencies(mine, first),
            speedup=None,
            peak_rss_bytes=max(evaluate_rss, mine.peak_rss_bytes or 0),
            seconds=0.0,
            verdict="baseline",
            load_ms=mine.load_ms,
        )
        if mine.error:
            row.verdict, row.reasons = "error", [mine.error]
        headline = row.at(HEADLINE.batch, HEADLINE.tokens) or (row.latency[0] if row.latency else None)
        row.speedup = headline.speedup if headline else None
        if baseline is not None:
            before = self.task.answers(baseline)
            row.score_delta = score - self.task.score(before, self.labelled.references)
            row.agreement = self.task.agreement(answers, before)
            row.drop = self.drop(before, answers)
            row.flips = self.flips(baseline, outputs)
        return row, measured

    def drop(self, before: np.ndarray, after: np.ndarray) -> Interval:
        """The paired loss in the metric, with its 95% interval."""
        references = self.labelled.references
        was, now = self.task.outcomes(before, references), self.task.outcomes(after, references)
        if was is not None and now is not None:
            paired = paired_drop(was, now)
        else:
            paired = paired_drop_of(self.task.score, before, after, references)
        return Interval(paired.drop, paired.low, paired.high)

    def flips(self, before: Outputs, after: Outputs) -> list[dict[str, Any]]:
        """The examples whose prediction differs from the baseline's, most confident first."""
        a, b = self.task.answers(before), self.task.answers(after)
        changed = [i for i in range(len(a)) if not np.array_equal(a[i], b[i])]
        if not changed or a.dtype.kind == "f":  # a regression value always differs in its last digits
            return []
        old = self.task.decode({name: [rows[i] for i in changed] for name, rows in before.items()})
        new = self.task.decode({name: [rows[i] for i in changed] for name, rows in after.items()})
        flips = [
            {
                "text": self.labelled.sources[i],
                "reference": self.task.name_of(self.labelled.references[i]),
                "baseline": x.label,
                "candidate": y.label,
                "baseline_confidence": x.score,
                "candidate_confidence": y.score,
            }
            for i, x, y in zip(changed, old, new)
        ]
        return sorted(flips, key=lambda flip: -flip["candidate_confidence"])[:MAX_FLIPS]


def latencies(mine: Measured, first: Measured | None) -> list[Latency]:
    """Samples per shape with their percentiles, and the ratio to `first` measured beside it."""
    found = []
    for shape, draws in mine.samples.items():
        flat = [[x for visit in draw for x in visit] for draw in draws]
        values = np.concatenate([np.asarray(x) for x in flat]) if flat else np.array([])
        if not len(values):
            continue
        p50, p90, p99 = (float(np.percentile(values, q)) for q in (50, 90, 99))
        ratio = speedup(first, mine, shape) if first is not None and first.samples.get(shape) else None
        found.append(
            Latency(
                shape.batch,
                shape.tokens,
                p50,
                p90,
                p99,
                [[round(x, 4) for x in draw] for draw in flat],
                Interval(ratio.value, ratio.low, ratio.high) if ratio else None,
            )
        )
    return found
