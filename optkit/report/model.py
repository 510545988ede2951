"""`Report`: a baseline row and one row per step, with verdicts. `report.json` is this, as JSON.

All other formats are drawn from it, one renderer per file. Raw samples are kept, so that every
figure can be computed again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optkit.core.files import read_json, write_text
from optkit.errors import DataError
from optkit.report import RENDERERS
from optkit.report.facts import Environment, GateResult, Scenario, Winner
from optkit.report.interval import Interval
from optkit.report.reading import HINT, Closed, Number, encodable, from_json

SCHEMA = "optkit.report/1"


@dataclass
class Latency(Closed):
    """Times of one model at one shape, in milliseconds.

    `tokens` is a number, or one of `optkit.benchmarking.plan.KINDS` ("data": the data's own lengths, "text":
    tokenizer included, ...). `samples_ms` holds one list per process drawn; for "all" a sample is a
    pass over the data. `speedup` is against the first row, at this shape. `bound_share` is the least
    time the machine's measured peaks allow, over p50 (None: not counted). `per_second` counts examples.
    `p50`, `p90` and `p99` are the percentiles again with their 95% intervals, an end of which is NaN
    where samples are too few to bound it. `padding` is the share of token slots that hold padding in the
    batches of this shape, built by length (None: a fixed shape, which has none, or images).
    """

    batch: int
    tokens: int | str
    p50_ms: Number
    p90_ms: Number
    p99_ms: Number
    samples_ms: list[list[Number]]
    speedup: Interval | None = None
    bound_share: float | None = None
    per_second: float | None = None
    p50: Interval | None = None
    p90: Interval | None = None
    p99: Interval | None = None
    padding: float | None = None


@dataclass
class Row(Closed):
    """One model as measured. `artifact` is its folder, "" where it was not kept.

    `speedup` is against the first row on the data's own lengths. `agreement` is the share of
    predictions that equal the first row's; `drop` is the paired loss in the metric with its
    interval (positive: worse than the first row). `load_ms` is what loading takes in a fresh process,
    imports included, `load_rss_bytes` the memory it holds then, `cold_ms` the first answer after it.
    `verdict` is `baseline`, `measured` (there was no gate), `passed`, `failed`,
    `step` (an intermediate result that nobody asked to serve), or `error`; `reasons` says why.
    `parent` names the row that the pass was applied to (None: the source, or not known).
    `seconds` is what the pass took, measuring excluded; `pass_peak_rss_bytes` its peak memory.
    `outcomes` has a 1 per example that was answered right and a 0 per wrong one, in the order of the
    data, so that two reports can be compared in pairs ("" where the metric is no share of right answers).
    `fidelity` holds how near the answers are to the first row's, as `optkit.benchmarking.fidelity` gives it;
    `table` the lines of `Task.table`, scores by label.
    `probes` of an INT8 model: `int8` (which share ran in INT8 kernels) and `neighbours` (whether an
    answer depends on its batch), as `int8_share` and `batch_invariance` of `optkit.benchmarking` give them.
    `gpu` of a model on a GPU: `device_ms` (median by CUDA events at each shape), the memory of its
    process, and clocks, power and temperature as read right after the last round.
    """

    name: str
    artifact: str
    runtime: str
    precision: str
    size_bytes: int
    score: Number
    score_delta: Number
    agreement: Number
    latency: list[Latency]
    speedup: Interval | None
    peak_rss_bytes: int
    seconds: Number
    verdict: str
    reasons: list[str] = field(default_factory=list)
    drop: Interval | None = None
    parent: str | None = None
    load_ms: float | None = None
    cold_ms: float | None = None
    load_rss_bytes: int | None = None
    pass_peak_rss_bytes: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    flips: list[dict[str, Any]] = field(default_factory=list)
    scenarios: list[Scenario] = field(default_factory=list)
    probes: dict[str, Any] = field(default_factory=dict)
    outcomes: str = ""
    gpu: dict[str, Any] = field(default_factory=dict)
    fidelity: dict[str, Any] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)

    def at(self, batch: int, tokens: int | str) -> Latency | None:
        return next((x for x in self.latency if (x.batch, x.tokens) == (batch, tokens)), None)


@dataclass(frozen=True)
class Answers(Closed):
    """How one model answers: what its `Row` will say but for names, times and verdict."""

    precision: str
    size_bytes: int
    score: Number = math.nan
    score_delta: Number = math.nan
    agreement: Number = math.nan
    peak_rss_bytes: int = 0
    seconds: Number = 0.0
    drop: Interval | None = None
    pass_peak_rss_bytes: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    flips: list[dict[str, Any]] = field(default_factory=list)
    outcomes: str = ""
    fidelity: dict[str, Any] = field(default_factory=dict)
    table: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, value: dict[str, Any], name: str = "answers") -> Answers:
        """As `asdict` or JSON wrote it. Raises DataError where a field is missing, unknown or malformed."""
        return from_json(cls, value, name)


def quality(row: Row | Answers) -> float:
    """The score; where none was measured, the agreement with the first row; minus infinity for neither."""
    value = row.agreement if math.isnan(row.score) else row.score
    return value if math.isfinite(value) else -math.inf


def shapes_of(rows: Iterable[Row]) -> list[tuple[int, int | str]]:
    """Every batch × tokens that one of `rows` was measured at, in their order."""
    return list(dict.fromkeys((x.batch, x.tokens) for row in rows for x in row.latency))


@dataclass
class Report(Closed):
    """Everything one `compress` or `bench` found out.

    `data`: `name`, `split`, `examples`, `sha256`, `truncated`, `padding` (shares of all token slots:
    `by_length`, `as_it_comes`). `chosen` is the name of a row, or None. `gate` is None where none was asked.
    `doubts` are warnings about the measurement. `winners` are the fastest candidates, one per shape. `trace`
    says what the accuracy-aware search tried, in order. `seconds` are those of the whole command;
    `measuring_seconds` the part that timed and probed what the rest had made and scored. `why` says in one
    sentence why the chosen row is. `fidelity` is what was measured in place of accuracy, in words ("" where
    accuracy was measured, or only times): then no row has a score.
    """

    task: str
    metric: str
    data: dict[str, Any]
    target: str
    environment: Environment
    rows: list[Row]
    chosen: str | None = None
    gate: GateResult | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    command: str = ""
    created: str = ""
    seconds: float = 0.0
    measuring_seconds: float = 0.0
    peak_rss_bytes: int = 0
    doubts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    winners: list[Winner] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    why: str = ""
    fidelity: str = ""
    schema: str = SCHEMA

    @property
    def baseline(self) -> Row:
        return self.rows[0]

    @property
    def chosen_row(self) -> Row | None:
        return next((row for row in self.rows if row.name == self.chosen), None)

    def row(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"No row {name!r}; rows: {[row.name for row in self.rows]}")

    def to_dict(self) -> dict[str, Any]:
        gate = {} if self.gate is None else asdict(self.gate)
        environment = self.environment.to_dict()
        return {"schema": self.schema, **asdict(self), "environment": environment, "gate": gate}

    def save(self, file: Path) -> None:
        """Write report.json; what has no value (NaN) is null there."""
        write_text(Path(file), render(self, "json"))

    def save_all(self, folder: Path) -> None:
        """Write report.json, report.md and report.html into `folder`."""
        for format, name in (("json", "report.json"), ("markdown", "report.md"), ("html", "report.html")):
            write_text(Path(folder) / name, render(self, format))

    @classmethod
    def load(cls, file: Path) -> Report:
        """Read a report.json. Raises DataError for another schema version, a damaged or a missing file."""
        if not os.path.exists(file):
            raise DataError(
                f"Expected a report.json, received {str(file)!r}, which does not exist.",
                hint="Give the file that optkit compress wrote into its output folder.",
            )
        return cls.from_dict(read_json(Path(file), DataError, strict=False), str(file))

    @classmethod
    def from_dict(cls, value: dict[str, Any], name: str = "report") -> Report:
        """From JSON values, checked as a whole. Raises DataError."""
        from optkit.core.schema.base import check
        from optkit.core.schema.report import Parts

        if value.get("schema") != SCHEMA:
            raise DataError(
                f"Expected schema {SCHEMA!r} in {name!r}, received {str(value.get('schema'))[:80]!r}.",
                hint="Run the command again with this version of optkit.",
            )
        check(Parts, json.loads(encodable(value)), name, DataError, HINT)
        return from_json(cls, {**value, "gate": value.get("gate", {}) or None}, name)


def render(report: Report, format: str) -> str:
    """The report as text in `format`, one of `RENDERERS`. Raises RecipeError for another."""
    return RENDERERS[format](report)
