"""`Recipe`: ordered passes, a gate and a target, from Python, TOML or JSON.

It is checked as a chain before any work starts: a misspelt field or a wrong order costs a second,
not an hour.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

from optkit.benchmarking.gate import Gate, share
from optkit.benchmarking.targets import TARGETS, gpu_chains, require
from optkit.compression.steps import AnyOf, check_order, check_repair, options_of
from optkit.core.cpu import has_vnni
from optkit.core.reading import parse_json, read_text
from optkit.core.schema import recipe as tables
from optkit.core.schema.base import check
from optkit.errors import MissingDependency, RecipeError, did_you_mean
from optkit.passes import PASSES
from optkit.passes.base import Pass, make

#: The INT8 candidates of each CPU engine.
INT8_PASSES = {"onnxruntime": ("quantize-dynamic", "quantize-static"), "openvino": ("open-vino-int8",)}
#: What making and serving them needs, beyond the extra `compress`.
_PACKAGES = {"onnxruntime": (), "openvino": ("openvino", "nncf")}


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
        return cls(tuple(one for step in steps for one in _expand(step, runtime)), gate, target)

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
        return {
            "target": self.target,
            "gate": {
                "max_drop": self.gate.drop_text(),
                "min_speedup": self.gate.min_speedup,
                **({"batch_invariant": True} if self.gate.batch_invariant else {}),
                **({"min_agreement": self.gate.min_agreement} if self.gate.min_agreement is not None else {}),
            },
            "steps": [
                {"any_of": [[_step_dict(p) for p in option] for option in step.options]}
                if isinstance(step, AnyOf)
                else _step_dict(step)
                for step in self.steps
            ],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any], name: str = "recipe") -> Recipe:
        """From JSON values, read from `name`. RecipeError says what was received, and the nearest name."""
        _known_keys(value, ("target", "gate", "steps"), "the recipe")
        gate = value.get("gate", {})
        _known_keys(gate, ("max_drop", "min_speedup", "batch_invariant", "min_agreement"), "[gate]")
        steps = value.get("steps", [])
        if not isinstance(steps, list):
            raise RecipeError(f"Expected steps to be a list, received {type(steps).__name__}.")
        passes = tuple(_step(s, i) for i, s in enumerate(steps, start=1))
        check(tables.Recipe, value, name, RecipeError)
        least = gate.get("min_agreement")
        parsed = Gate.parse(gate.get("max_drop", "1%"), gate.get("min_speedup"))
        return cls(
            passes,
            dataclasses.replace(
                parsed,
                batch_invariant=gate.get("batch_invariant", False),
                min_agreement=None if least is None else share(least, "min_agreement"),
            ),
            value.get("target", "cpu"),
        )

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """From a .toml or .json file; errors name the file and the line."""
        path = Path(path)
        text = read_text(path, RecipeError, most=2**20)
        try:
            is_json = path.suffix.lower() == ".json"
            value = parse_json(text, str(path), RecipeError) if is_json else tomllib.loads(text)
        except (ValueError, RecursionError) as reason:
            raise RecipeError(f"{path}: not valid TOML: {reason}.") from reason
        if not isinstance(value, dict):
            raise RecipeError(f"{path}: expected a table, received a {type(value).__name__}.")
        try:
            return cls.from_dict(value, path.name)
        except RecipeError as error:
            where = _line_of(text, str(error))
            raise RecipeError(f"{path}{f':{where}' if where else ''}: {error}", hint=error.hint) from error


def template() -> str:
    """A commented recipe to edit, made from the passes' own documentation. Loads as `Recipe.int8()`."""
    names = [option[0].name() for option in options_of(Recipe.int8().steps[1])]
    fields = "" if has_vnni() else ", reduce_range = true"
    alternatives = ", ".join(f'[{{ pass = "{name}"{fields} }}]' for name in names)
    lines = [
        "# An optkit recipe. Use it with: optkit compress CKPT --recipe THIS_FILE --data DATA --out OUT",
        "# `optkit passes` lists every pass and field.",
        "",
        'target = "cpu"',
        "",
        "[gate]",
        'max_drop = "1%"      # relative to the baseline; "0.01" is absolute in the metric',
        "# min_speedup = 1.5   # against torch fp32, at the lower end of its interval",
        "# batch_invariant = true   # an answer may not depend on the texts in its batch",
        "",
        "[[steps]]",
        'pass = "export-onnx"',
        *_field_lines("export-onnx"),
        "",
        "# Alternatives from the same point: the fastest that passes the gate is kept.",
        "[[steps]]",
        f"any_of = [{alternatives}]",
        "",
    ]
    for name in names:
        lines += [f"# Fields of {name}, as in {{ pass = {name!r}, per_channel = false }}:".replace("'", '"')]
        lines += [*_field_lines(name), ""]
    return "\n".join(lines)


def _field_lines(name: str) -> Iterable[str]:
    for f in dataclasses.fields(PASSES[name]):
        choices = f.metadata.get("choices")
        doc = f.metadata["doc"] + (f" ({', '.join(map(str, choices))})" if choices else "")
        if f.default is None:  # TOML has no null
            yield f"# {f.name}: not set  # {doc}"
            continue
        default = json.dumps(list(f.default) if isinstance(f.default, tuple) else f.default)
        yield f"# {f.name} = {default}  # {doc}"


def _engines(runtime: str | None) -> list[str]:
    """The engines to try: `runtime` alone, or all that are installed."""
    if runtime is not None and runtime not in INT8_PASSES:
        raise RecipeError(
            f"Expected a CPU engine with INT8, received {runtime!r}.", hint=did_you_mean(runtime, INT8_PASSES)
        )
    absent = {engine: [p for p in _PACKAGES[engine] if not _installed(p)] for engine in INT8_PASSES}
    if runtime is None:
        return [engine for engine in INT8_PASSES if not absent[engine]]
    if absent[runtime]:
        raise MissingDependency.of(absent[runtime][0], runtime)
    return [runtime]


def _installed(package: str) -> bool:
    return util.find_spec(package) is not None


def _expand(step: Pass | AnyOf | str, runtime: str | None) -> tuple[Pass | AnyOf, ...]:
    if not isinstance(step, str):
        return (step,)
    if step == "cuda":
        gpu = require("cuda")
        assert gpu is not None
        chains = gpu_chains(gpu)
        return (AnyOf(tuple(tuple(make(*one) for one in chain) for chain in chains)),)
    if step != "int8":
        return (make(step, {}),)
    names = [name for engine in _engines(runtime) for name in INT8_PASSES[engine]]
    fields = {} if has_vnni() else {"reduce_range": True}  # 8-bit products would saturate
    return (make("export-onnx", {}), AnyOf(tuple((make(name, fields),) for name in names)))


def _step(value: Any, number: int) -> Pass | AnyOf:
    if not isinstance(value, dict):
        raise RecipeError(f"Expected step {number} to be a table, received {value!r}.")
    if "any_of" in value:
        _known_keys(value, ("any_of",), f"step {number}")
        options = value["any_of"]
        if not isinstance(options, list):
            raise RecipeError(f"Expected any_of in step {number} to be a list, received {options!r}.")
        chains = [option if isinstance(option, list) else [option] for option in options]
        return AnyOf(tuple(tuple(_pass(p, number) for p in chain) for chain in chains))
    return _pass(value, number)


def _pass(value: Any, number: int) -> Pass:
    if not isinstance(value, dict) or "pass" not in value:
        known = list(value) if isinstance(value, dict) else value
        raise RecipeError(f'Expected step {number} to have pass = "NAME", received {known!r}.')
    try:
        return make(value["pass"], {k: v for k, v in value.items() if k != "pass"})
    except RecipeError as error:
        raise RecipeError(f"step {number}: {error}", hint=error.hint) from error


def _step_dict(step: Pass) -> dict[str, Any]:
    return {"pass": step.name(), **step.parameters()}


def _known_keys(value: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(value, dict):
        raise RecipeError(f"Expected {where} to be a table, received {value!r}.")
    for key in value:
        if key not in known:
            raise RecipeError(f"Unknown key {key!r} in {where}.", hint=did_you_mean(key, known))


def _line_of(text: str, message: str) -> int | None:
    """The line of what `message` is about: within its step, the one line with a name that it mentions.

    A name on several lines proves nothing; then it is the step's first line, or None.
    """
    lines = [line.split("#")[0] for line in text.splitlines()]
    heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*steps\s*]]", line)]
    step = re.search(r"\b[Ss]tep (\d+)", message)
    begin, end = 0, len(lines)
    if step and len(heads) >= (number := int(step.group(1))):
        begin, end = [*heads, len(lines)][number - 1 : number + 1]
    names = re.findall(r"'([^']+)'|\b[a-z][\w-]*\.([a-z_]\w*)|--([a-z-]+)", message)
    for name in (quoted or dotted or flag.replace("-", "_") for quoted, dotted, flag in names):
        lines_with_name = [
            i + 1 for i in range(begin, end) if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lines[i])
        ]
        if len(lines_with_name) == 1:
            return lines_with_name[0]
    return begin + 1 if step and heads else None
