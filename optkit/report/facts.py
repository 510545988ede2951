"""The small parts of a report: `Environment`, `GateResult`, `Winner`, `Scenario`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from optkit.report.reading import Closed, Open


@dataclass(frozen=True)
class Environment(Open):
    """The machine that the numbers come from, and how they were measured; None: not known.

    `cores` are those that the process may use, `cores_total` those of the system; `isa` the instruction sets
    that decide how fast low precision is; `mhz` the clock of the fastest core; `threads` what was measured
    with. `versions` are those of libraries, `measured_with` the fields of the plan, `peaks` operations and
    bytes per second at best (`optkit.benchmarking.roofline`), `noise` what else the machine did meanwhile
    (`optkit.benchmarking.noise`). `gpu` and `transfers` are those of target cuda.
    """

    cpu: str | None = None
    cores: int | None = None
    cores_total: int | None = None
    numa_nodes: int | None = None
    isa: list[str] = field(default_factory=list)
    memory_bytes: int | None = None
    virtual: bool | None = None
    hypervisor: str | None = None
    governor: str | None = None
    frequency_driver: str | None = None
    mhz: float | None = None
    system: str | None = None
    python: str | None = None
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    measured_with: dict[str, Any] = field(default_factory=dict)
    peaks: dict[str, float | None] | None = None
    noise: dict[str, float | None] = field(default_factory=dict)
    gpu: dict[str, Any] | None = None
    transfers: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; without a GPU nothing is said of one."""
        gpu = ("gpu", "transfers")
        return {k: v for k, v in asdict(self).items() if k not in gpu or v is not None}


@dataclass(frozen=True)
class GateResult(Open):
    """What candidates had to keep, as the fields of `optkit.Gate` and as `conditions` in words, and whether
    the chosen one `passed`."""

    max_drop: float | None = None
    relative: bool = True
    min_speedup: float | None = None
    batch_invariant: bool = False
    min_agreement: float | None = None
    conditions: str = ""
    passed: bool = False


@dataclass(frozen=True)
class Winner(Open):
    """The fastest candidate at a `shape`, such as 1xdata: its `row`, its `runtime` and its median."""

    shape: str
    row: str
    runtime: str
    p50_ms: float


@dataclass
class Scenario(Closed):
    """The result of one MLPerf scenario, in its own terms.

    `metric` is what `value` means, with its unit (None: no result); `queries` and `seconds` are what
    it rests on; `valid` says whether it meets the rules asked for, `notes` how it was found or
    what is missing.
    """

    scenario: str
    metric: str
    value: float | None
    queries: int
    seconds: float
    valid: bool
    notes: str = ""
