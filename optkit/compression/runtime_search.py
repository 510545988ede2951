"""`search`: runtime settings as a part of the result, found by a short measured search.

Settings are tried one after the other, each with its values side by side in processes of their own; a
value is taken where it is faster and the interval of the ratio says so, so that noise changes nothing.
Only settings that leave answers as they are take part: precision is a pass's choice, not one of these, and
padding is tried only where no answer depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log
from pathlib import Path
from typing import Any

from optkit.benchmarking.latency import Measurement, measure, speedup
from optkit.benchmarking.plan import Candidate, Plan
from optkit.report.model import Row

#: Tokens to whose multiples lengths are rounded up (`optkit.runtimes.bucketed`); only ragged shapes feel it.
BUCKETS = (1, 8, 16)
#: Runtime → setting → values that are tried; the first is in force where nothing is said. Thread counts come
#: from the plan.
SETTINGS: dict[str, dict[str, tuple[Any, ...]]] = {
    "onnxruntime": {
        "threads": (),
        "spinning": (True, False),
        "arena": (True, False),
        "optimization": ("all", "extended"),
        "prepacking": (True, False),
        "bucket": BUCKETS,
    },
    "openvino": {
        "threads": (),
        "hint": ("LATENCY", "THROUGHPUT"),
        "hyper_threading": (False, True),
        "bucket": BUCKETS,
    },
}
Measure = Callable[[Sequence[Candidate], Path, Plan], Measurement]


@dataclass
class RuntimeSettings:
    """`options` beat the defaults; `trace` is each trial: setting, value, how many times as fast."""

    options: dict[str, Any] = field(default_factory=dict)
    trace: list[dict[str, Any]] = field(default_factory=list)

    def in_words(self) -> list[str]:
        """Each trial in a line."""
        lines = []
        for trial in self.trace:
            if trial.get("failed"):
                said = "failed"
            else:
                said = f"is {trial['speed']:.2f} times as fast{'' if trial['sure'] else ', within the noise'}"
            lines.append(f"runtime settings: {trial['setting']} = {trial['value']} {said}")
        return lines


def search(
    candidate: Candidate, encoded: Path, plan: Plan, time: Measure = measure, bucket: bool = False
) -> RuntimeSettings:
    """The settings of `candidate`'s runtime that are fastest over the plan's shapes.

    Speed is the geometric mean over the shapes. A runtime without settings gives none. `time` measures,
    as `optkit.benchmarking.latency.measure` does. `bucket`: padding may be tried (`may_pad`).
    """
    result = RuntimeSettings()
    for setting, values in SETTINGS.get(candidate.runtime or "", {}).items():
        if setting == "bucket" and not bucket:
            continue
        if setting == "threads":
            values = _thread_counts(plan.threads or 1)
        now = replace(candidate, name="now", options={**candidate.options, **result.options})
        in_force = now.options.get(setting, plan.threads if setting == "threads" else values[0])
        others = {f"{setting}={value}": value for value in values if value != in_force}
        trials = [replace(now, name=n, options={**now.options, setting: v}) for n, v in others.items()]
        if not trials:
            continue
        measured = time([now, *trials], encoded, plan)
        best, value_of_best = 1.0, None
        for trial in trials:
            if measured["now"].error or measured[trial.name].error:
                result.trace.append({"setting": setting, "value": others[trial.name], "failed": True})
                continue
            ratios = [speedup(measured["now"], measured[trial.name], shape) for shape in plan.shapes]
            mean = exp(sum(log(r.value) for r in ratios) / len(ratios))
            sure = exp(sum(log(r.low) for r in ratios) / len(ratios)) > 1
            result.trace.append(
                {"setting": setting, "value": others[trial.name], "speed": round(mean, 4), "sure": sure}
            )
            if sure and mean > best:
                best, value_of_best = mean, others[trial.name]
        if value_of_best is not None:
            result.options[setting] = value_of_best
    return result


def may_pad(row: Row) -> bool:
    """Whether more padding leaves the answers of `row` as they are.

    In floating point it does. In 8 bits scales may be taken from a whole batch, padding included, so that
    only the neighbours probe can tell.
    """
    neighbours = row.probes.get("neighbours")
    return neighbours["invariant"] if neighbours else row.precision in ("fp32", "fp16", "bf16")


def _thread_counts(most: int) -> tuple[int, ...]:
    """1, 2, 4 ... and `most`: for short texts fewer threads can be faster.

    >>> _thread_counts(6)
    (1, 2, 4, 6)
    """
    return tuple(sorted({*(2**i for i in range(most.bit_length()) if 2**i <= most), most}))
