"""What is measured, and how: shapes, candidates, and the plan of rounds and processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optkit.benchmarking.environment import usable_among
from optkit.core.quantities import (
    BOUND_MS,
    COUNT,
    COUNT_OR_NONE,
    FEW,
    PAUSE,
    SECONDS,
    SEED,
    TOKENS,
    check_all,
)
from optkit.errors import RecipeError

#: What `tokens` may be instead of a number, and how a person reads it.
KINDS = {
    "data": "the data's own lengths",
    "text": "text in, answers out, tokenizer included",
    "stream": "the data in random order, as it would arrive",
    "all": "the data set (at most 1,000 of it), in the best batch size found",
}


@dataclass(frozen=True)
class Shape:
    """`batch` × `tokens`, where tokens is a number or one of `KINDS`.

    >>> Shape.parse("8x128"), str(Shape(1, "data"))
    (Shape(batch=8, tokens=128), '1xdata')
    """

    batch: int
    tokens: int | str

    def __post_init__(self) -> None:
        if not COUNT.holds(self.batch) or not (self.tokens in KINDS or TOKENS.holds(self.tokens)):
            raise RecipeError(
                f"Expected a shape such as 8x128 or 1xdata, received {self.batch}x{self.tokens}.",
                hint=f"The batch is {COUNT}, the other {TOKENS}.",
            )

    @property
    def fixed(self) -> bool:
        """Whether every batch has the same size, and needs no data of the user's."""
        return isinstance(self.tokens, int)

    @classmethod
    def parse(cls, text: str) -> Shape:
        match = re.fullmatch(rf"\s*(\d{{1,9}})\s*[x×*]\s*(\d{{1,9}}|{'|'.join(KINDS)})\s*", text, re.ASCII)
        if not match:
            raise RecipeError(
                f"Expected a shape such as 8x128 or 1xdata, received {text!r}.",
                hint="batch x tokens; 'data' stands for the data's own lengths, 'text' for texts, "
                "tokenizer included.",
            )
        batch, tokens = match.groups()
        return cls(int(batch), tokens if tokens in KINDS else int(tokens))

    def __str__(self) -> str:
        return f"{self.batch}x{self.tokens}"


_QUANTITIES = {
    **dict.fromkeys(("rounds", "batch_limit"), COUNT),
    **dict.fromkeys(("processes", "threads"), FEW),
    **dict.fromkeys(("warmup", "redraws"), COUNT_OR_NONE),
    "seed": SEED,
    "budget_ms_per_round": BOUND_MS,
    "min_seconds": PAUSE,
    "timeout_s": SECONDS,
}


@dataclass(frozen=True)
class Plan:
    """How to measure.

    `processes` fresh processes per candidate, at least `rounds` visits to each shape in each of them. A visit
    repeats its batch (or its pass over the data) for about `budget_ms_per_round` milliseconds, at
    least once and at most `batch_limit` times, as often in every round. `warmup` batches run
    untimed before the first round. `threads` bounds the threads of each candidate (None: the
    library's choice), `cores` names the cores that all of them run on (None: any). Rounds go on
    until every candidate has been timed for `min_seconds` at each shape. A process of a candidate
    that is drawn while the machine is busy is drawn again, at most `redraws` times in all (None: as
    often as there are processes). A candidate that says nothing for `timeout_s` is ended.
    """

    shapes: tuple[Shape, ...]
    rounds: int = 6
    processes: int = 2
    budget_ms_per_round: float = 60.0
    warmup: int = 3
    seed: int = 0
    threads: int | None = None
    cores: tuple[int, ...] | None = None
    batch_limit: int = 30
    min_seconds: float = 0.0
    redraws: int | None = None
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if not self.shapes:
            raise RecipeError("Expected at least one shape, received none.", hint="Give one such as 1x128.")
        if len(set(self.shapes)) < len(self.shapes):
            raise RecipeError(f"Expected every shape once, received {[str(s) for s in self.shapes]}.")
        check_all(self, _QUANTITIES)
        for core in self.cores or ():
            COUNT_OR_NONE.check(core, "a core")

    def record(self) -> dict[str, Any]:
        """What a report says of how it was measured; its rows tell the shapes."""
        return {k: v for k, v in asdict(self).items() if k not in ("shapes", "seed", "timeout_s")}


#: Fields of a plan that sees differences of 5% (benchmarks/aa.py): more processes, more and shorter visits.
PRECISE: dict[str, Any] = {"processes": 8, "rounds": 20, "budget_ms_per_round": 30.0}


def fields_of(
    precise: bool = False,
    threads: int | None = None,
    cores: str | Sequence[int] | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    warmup: int | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """The fields of a plan that a caller asks for; None leaves the default, with `precise` that of `PRECISE`.

    >>> fields_of(precise=True, rounds=3)
    {'processes': 8, 'rounds': 3, 'budget_ms_per_round': 30.0}
    """
    given = {
        "rounds": rounds,
        "processes": processes,
        "warmup": warmup,
        "threads": threads,
        "cores": None if cores is None else usable_among(cores),
        "timeout_s": timeout,
    }
    return {**(PRECISE if precise else {}), **{k: v for k, v in given.items() if v is not None}}


@dataclass(frozen=True)
class Candidate:
    """A model to measure: an artifact's folder, and the runtime that loads it with `options`.

    The option `task` names what the model is for, where its manifest or architecture does not tell.
    `encoded` are its own examples, where its tokenizer differs from the others' (None: the common
    ones); `texts` a JSON file with a list of raw inputs, for shapes of tokens "text". `slowdown` makes
    every answer take longer by this share: what the self-check looks for.
    """

    name: str
    artifact: str
    runtime: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    encoded: str | None = None
    texts: str | None = None
    slowdown: float = 0.0
