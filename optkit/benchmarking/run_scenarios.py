"""The MLPerf scenarios of a benchmark: three are read from its samples, the server is searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optkit.benchmarking import scenarios as rules
from optkit.benchmarking.batches import ALL_EXAMPLES
from optkit.benchmarking.latency import Measurement
from optkit.benchmarking.plan import Candidate, Plan
from optkit.benchmarking.timed_process import Measured, Spawn
from optkit.core.process import Child
from optkit.core.quantities import BOUND_MS
from optkit.errors import OptkitError, RecipeError, did_you_mean
from optkit.events import Events, Progress, Step
from optkit.report.facts import Scenario

#: Queries answered at once by the server scenario's system under test, at most.
MAX_BATCH = 8
#: Length of one trial of the short server scenario, in seconds.
SHORT_TRIAL = 5.0


@dataclass(frozen=True)
class Scenarios:
    """Which MLPerf scenarios to run: names from `optkit.benchmarking.scenarios.SCENARIOS`.

    `p99_ms` is the server scenario's latency bound; `full` asks for the rules' minimum duration and
    early stopping instead of short defaults.
    """

    names: tuple[str, ...] = ()
    p99_ms: float = 100.0
    full: bool = False

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in rules.SCENARIOS:
                raise RecipeError(f"Unknown scenario {name!r}.", hint=did_you_mean(name, rules.SCENARIOS))
        if self.full and not self.names:
            raise RecipeError(
                "Expected a scenario to run by MLPerf's rules, received none.",
                hint=f"Give --scenario: {', '.join(rules.SCENARIOS)}.",
            )
        BOUND_MS.check(self.p99_ms, "the latency bound")


def scenarios_of(
    candidates: Sequence[Candidate],
    measured: Measurement,
    asked: Scenarios,
    plan: Plan,
    encoded: Path,
    examples: int,
    events: Events,
    spawn: Spawn | None = None,
) -> dict[str, list[Scenario]]:
    """The results of the asked scenarios of each candidate that was measured, by its name."""
    make = spawn or (lambda n: Child("optkit.benchmarking.worker", threads=n, timeout_s=plan.timeout_s))
    results: dict[str, list[Scenario]] = {}
    for candidate in candidates:
        if measured[candidate.name].error:
            continue
        results[candidate.name] = []
        for name in asked.names:
            if name == "server":
                events(Step(f"server scenario: {candidate.name}"))
                result = _server(candidate, asked, plan, encoded, make, events)
            else:
                result = _of_samples(name, measured[candidate.name], asked.full, examples)
            results[candidate.name].append(result)
    return results


def _of_samples(name: str, measured: Measured, full: bool, examples: int) -> Scenario:
    """single-stream, multi-stream and offline, from the samples of their shapes."""
    draws = measured.samples[rules.SHAPES[name]]
    samples = [x for draw in draws for visit in draw for x in visit]
    seconds = sum(samples) / 1000
    if name == "offline":
        answered = min(examples, ALL_EXAMPLES) * len(samples)
        valid = seconds >= rules.MIN_SECONDS and answered >= min(rules.MIN_OFFLINE, examples)
        note = f"batches of {measured.offline_batch}, by length"
        if examples > ALL_EXAMPLES:
            note += f"; {ALL_EXAMPLES:,} of {examples:,} examples, at even quantiles of length, stand for all"
        rate = round(answered / seconds, 2)
        return Scenario(name, "examples per second", rate, answered, round(seconds, 3), valid, note)
    percentile = rules.PERCENTILE[name]
    value = rules.early_stopping(samples, percentile) if full else float(np.percentile(samples, percentile))
    least = rules.MIN_SINGLE_STREAM if name == "single-stream" else rules.queries_needed(percentile)
    valid = full and value is not None and seconds >= rules.MIN_SECONDS and len(samples) >= least
    note = "early-stopping bound (99% confidence)" if full else "short run: no minimum duration"
    if name == "multi-stream":
        note += f"; {rules.SHAPES[name].batch} examples per query"
    metric = f"p{percentile:g} latency, ms"
    rounded = None if value is None else round(value, 3)
    return Scenario(name, metric, rounded, len(samples), round(seconds, 3), valid, note)


def _server(
    candidate: Candidate, asked: Scenarios, plan: Plan, encoded: Path, spawn: Spawn, events: Events
) -> Scenario:
    """The highest rate of Poisson arrivals whose p99 stays under the bound, in one fresh process."""
    metric = f"queries per second at p99 of at most {asked.p99_ms:g} ms"
    options = {**({"threads": plan.threads} if plan.threads else {}), **candidate.options}
    least = rules.MIN_SECONDS if asked.full else SHORT_TRIAL
    try:
        with spawn(plan.threads) as child:
            if plan.cores:
                child.call("pin", cores=list(plan.cores))
            child.call("load", artifact=candidate.artifact, runtime=candidate.runtime, options=options)
            child.call("attach", encoded=candidate.encoded or str(encoded))
            child.call("warm", batch=1, tokens="data", repeats=1)
            once_ms = float(np.mean(child.call("time", batch=1, tokens="data", repeats=1)))

            def run(rate: float, seconds: float) -> rules.Trial:
                seconds = rules.trial_seconds(rate, seconds, asked.full)
                events(Progress(f"{rate:.0f} queries per second"))
                reply = child.call(
                    "serve",
                    rate=rate,
                    seconds=seconds,
                    seed=plan.seed,
                    max_batch=MAX_BATCH,
                    give_up_ms=10 * asked.p99_ms,
                )
                return rules.trial(rate, reply, seconds, asked.p99_ms, asked.full)

            # Short trials search; the rules' long one confirms, a little lower until it holds.
            best, trials = rules.highest_rate(lambda rate: run(rate, SHORT_TRIAL), 0.5 * 1000 / once_ms)
            if asked.full and best is not None:
                rate, best = best.rate, None
                while best is None and rate > trials[0].rate / 64:
                    trials.append(run(rate, least))
                    best = trials[-1] if trials[-1].holds else None
                    rate *= 0.95
    except OptkitError as error:
        return Scenario("server", metric, None, 0, 0.0, False, error.whole)
    if best is None:
        note = f"not even {min(t.rate for t in trials):.1f} queries per second held the bound"
        return Scenario("server", metric, None, 0, 0.0, False, note)
    note = f"p99 there: {best.p99_ms:.1f} ms; at most {MAX_BATCH} queries answered together; "
    note += f"{len(trials)} trials" + ("" if asked.full else ", short run: no minimum duration")
    valid = asked.full and best.seconds >= rules.MIN_SECONDS
    return Scenario("server", metric, round(best.rate, 1), best.queries, round(best.seconds, 3), valid, note)
