"""`Recipe`: ordered passes, a gate and a target, from Python, TOML or JSON.

It is checked as a chain before any work starts: a misspelt field or a wrong order costs a second,
not an hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit.benchmarking.gate import Gate
from optkit.benchmarking.targets import TARGETS
from optkit.compression import recipe_file
from optkit.compression.engines import expanded
from optkit.compression.steps import AnyOf, check_order, check_repair, options_of
from optkit.errors import RecipeError, did_you_mean
from optkit.passes.base import Pass

#: More ways from the source to a candidate than anybody waits for.
MOST_CHAINS = 1000


@dataclass(frozen=True)
class Recipe:
    """`steps` in order; checked when it is made.

    >>> [step.name() for step in Recipe.int8(runtime="onnxruntime").chains()[0]]
    ['export-onnx', 'quantize-dynamic']
    """

    steps: tuple[Pass | AnyOf, ...]
    gate: Gate = field(default_factory=Gate)
    target: str = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise RecipeError("Expected at least one step, received none.", hint="optkit recipe init")
        if self.target not in TARGETS:
            raise RecipeError(
                f"Unknown target {self.target!r}.", hint=did_you_mean(str(self.target), TARGETS)
            )
        if (count := math.prod(len(options_of(step)) for step in self.steps)) > MOST_CHAINS:
            raise RecipeError(
                f"Expected at most {MOST_CHAINS} chains of passes, received steps that make {count:,}.",
                hint="Each is run and measured: leave some alternatives out.",
            )
        check_order(self.steps)
        for chain in self.chains():
            check_repair([step.name() for step in chain])

    @classmethod
    def int8(cls, gate: Gate = Gate(), runtime: str | None = None) -> Recipe:
        """Export, then INT8 for every CPU engine that is installed; the fastest that passes is kept.

        `runtime` (onnxruntime, openvino) restricts the engines. Raises MissingDependency, which names
        the extra, where that one is not installed.
        """
        return cls.of(["int8"], gate, runtime)

    @classmethod
    def of(
        cls, steps: Iterable[Pass | AnyOf | str], gate: Gate = Gate(), runtime: str | None = None
    ) -> Recipe:
        """From passes and names of passes with their defaults; "int8" stands for what `int8` does, "cuda"
        for every way to serve on this machine's GPU (OptkitError where it has none).

        >>> [step.name() for step in Recipe.of(["prune", "int8"]).chains()[0]]
        ['prune', 'export-onnx', 'quantize-dynamic']
        """
        if isinstance(steps, str):
            steps = [steps]
        steps = list(steps)
        target = "cuda" if "cuda" in steps else "cpu"
        return cls(tuple(one for step in steps for one in expanded(step, runtime)), gate, target)

    def suffix(self) -> str:
        """What the recipe makes, for a name: `pruned-int8`."""
        last = [options_of(step)[0][-1] for step in self.steps]
        parts = [*(one.suffix for one in last), last[-1].precision]
        named = list(dict.fromkeys(part for part in parts if part))
        return "-".join(named) or (self.target if self.target != "cpu" else "fp32")

    def chains(self) -> list[tuple[Pass, ...]]:
        """Every way from the source to a candidate."""
        chains: list[tuple[Pass, ...]] = [()]
        for step in self.steps:
            chains = [(*chain, *option) for chain in chains for option in options_of(step)]
        return chains

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` reads it back."""
        return recipe_file.table(self.steps, self.gate, self.target)

    @classmethod
    def from_dict(cls, value: dict[str, Any], name: str = "recipe") -> Recipe:
        """From JSON values, read from `name`. RecipeError says what was received, and the nearest name."""
        return cls(*recipe_file.parsed(value, name))

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """From a .toml or .json file; errors name the file and the line."""
        return recipe_file.read(Path(path), cls.from_dict)
