"""report.json: the parts that are objects without a class of their own, as the renderers read them.

The rest is checked against the dataclasses in `optkit.report.model`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from optkit.core.schema.base import Known

#: Above any byte count or time; figures beyond it would overflow a chart.
LARGEST = 1e18
Value = Annotated[float, Field(ge=-LARGEST, le=LARGEST)] | None
Whole = Annotated[int, Field(ge=0, le=10**18)]


class Int8(Known):
    """What `optkit.benchmarking.int8_share` gives."""

    int8_multiplies: Whole
    multiplies: Whole
    time_share: Value
    provider: str


class Neighbours(Known):
    """What `optkit.benchmarking.batch_invariance` gives."""

    padded: Value
    batched: Value
    largest_output: Value
    largest_difference: Value = None
    flipped: Whole
    examples: Whole
    invariant: bool = True


class Probes(Known):
    int8: Int8 | None = None
    neighbours: Neighbours | None = None


class Picture(Known):
    """A small JPEG in base64, `optkit.tasks.drawings` made it."""

    caption: Annotated[str, Field(max_length=1000)]
    jpeg: Annotated[str, Field(pattern="^[A-Za-z0-9+/]+={0,2}$", max_length=400_000)]


class Color(Known):
    color: Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
    label: str


class Flip(Known):
    """`reference` None: what is true has no name, so that nothing is said of which answer is right."""

    reference: object
    baseline: object
    candidate: object
    text: str | None = None
    baseline_confidence: Value = None
    candidate_confidence: Value = None
    pictures: list[Picture] = Field([], max_length=8)
    key: list[Color] = Field([], max_length=100)


class Gpu(Known):
    process_memory_mib: Value = None


class ScoreLine(Known):
    label: str


class RowParts(Known):
    outcomes: Annotated[str, Field(pattern="^[01]*$")] = ""
    flips: list[Flip] = Field([], max_length=100_000)
    table: list[ScoreLine] = Field([], max_length=100_000)
    probes: Probes = Probes()
    gpu: Gpu = Gpu()


class Padding(Known):
    by_length: Value = None
    as_it_comes: Value = None


class DataSet(Known):
    name: str | None = None
    split: str | None = None
    examples: Whole | str | None = None
    sha256: str | None = None
    padding: Padding | None = None


class Parts(Known):
    rows: list[RowParts] = Field(min_length=1, max_length=10_000)
    data: DataSet = DataSet()
