"""`Pass`: one step that turns an artifact into a new one. Its fields are its configuration.

Adding a pass is one file under `passes/` and one test; there is no list to edit.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import time
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, relocated, seal
from optkit.core.output import staged
from optkit.core.quantities import COUNT, WEIGHT, Quantity
from optkit.data.examples import EncodedSet
from optkit.errors import PassError, RecipeError, did_you_mean
from optkit.models import tokenization
from optkit.passes import PASSES
from optkit.tasks.base import Labelled, Task


@dataclass(frozen=True)
class PassContext:
    """What a pass may ask for while it runs.

    `encoded(split, limit)` gives encoded examples, `rows(split)` labelled rows for passes that
    train, `labelled(split)` the same encoded, with references; all raise DataError where no data was
    given (then `own_data` is false). `progress(text, fraction)` tells the user. `origin` is the folder of the
    checkpoint that the chain of passes started from, where that is known.
    """

    task: Task
    encoded: Callable[[str, int | None], EncodedSet]
    rows: Callable[[str], Any]
    labelled: Callable[[str], Labelled]
    progress: Callable[[str, float | None], None] = lambda text, fraction: None
    threads: int | None = None
    trust_remote_code: bool = False
    origin: str | None = None
    own_data: bool = True


@dataclass(frozen=True)
class Pass(ABC):
    """Subclasses say which formats they accept and produce, and document each field with `param`."""

    accepts: ClassVar[frozenset[str]]
    produces: ClassVar[str]
    #: Precision of the result; None: that of the source.
    precision: ClassVar[str | None] = None
    #: The runtime that serves the result; None: the format's own.
    runtime: ClassVar[str | None] = None
    needs_data: ClassVar[bool] = False
    #: Whether it learns from the user's data or cuts by it, so that other texts do not do.
    needs_own_data: ClassVar[bool] = False
    #: What its result is called in the default name of an output; "": by its precision.
    suffix: ClassVar[str] = ""
    #: Whether it takes the graph of a causal language model, which has a cache.
    takes_cache: ClassVar[bool] = False
    #: Whether the result is meant to answer as its source does, whatever the weights.
    keeps_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, f.name, value)
            if isinstance(value, int) and not isinstance(value, bool) and hints[f.name] is float:
                object.__setattr__(self, f.name, float(value))
                value = float(value)
            self._check(f, hints[f.name], value)

    @classmethod
    def name(cls) -> str:
        """The class name in kebab-case: ExportOnnx → export-onnx."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return inspect.getdoc(cls).splitlines()[0]  # type: ignore[union-attr]

    def made_precision(self, source: Artifact) -> str | None:
        """Precision of what is made from `source`; None: the source's own."""
        return self.precision

    def runtime_options(self, notes: dict[str, Any]) -> dict[str, Any]:
        """What `runtime` is opened with, kept in the manifest; `notes` are what `run` gave."""
        return {}

    def reads(self) -> dict[str, str]:
        """What it reads beside its source and the data → a fingerprint of the contents.

        What an earlier run left is taken up again only where they are the same. Raises an OptkitError where
        something is missing.
        """
        return {}

    def check(self, checkpoint: Artifact, task: Task) -> None:
        """Raise an OptkitError where it cannot work in a chain from `checkpoint`, a model for `task`.

        Asked before the first pass runs: what is wrong costs a second, not an hour.
        """
        return

    @abstractmethod
    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        """Write the result's files into `out`, an empty folder; `source` is never changed.

        Returns notes for the report (JSON values). Raises PassError where the result cannot be trusted.
        """

    def parameters(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in dataclasses.fields(self)
        }

    def _check(self, f: dataclasses.Field[Any], hint: Any, value: Any) -> None:
        where = f"{self.name()}.{f.name}"
        if not _fits(value, hint):
            expected = getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)
            raise RecipeError(
                f"Expected {where} to be {expected}, received {value!r} ({type(value).__name__})."
            )
        choices = f.metadata.get("choices")
        if choices and value not in choices:
            raise RecipeError(
                f"Expected {where} to be one of {', '.join(map(str, choices))}, received {value!r}.",
                hint=did_you_mean(str(value), map(str, choices)),
            )
        if quantity := quantity_of(f, hint):
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None:
                    quantity.check(number, where)


def param(
    default: Any,
    doc: str,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    of: Quantity | None = None,
) -> Any:
    """A field of a pass: its default, its one-line meaning, and what values it takes.

    A number is one `of` a quantity, or lies from `minimum` to `maximum`.
    """
    metadata = {"doc": doc, "choices": choices, "minimum": minimum, "maximum": maximum, "of": of}
    return dataclasses.field(default=default, metadata=metadata)


def quantity_of(f: dataclasses.Field[Any], hint: Any) -> Quantity | None:
    """What a field that holds numbers may hold; None for another."""
    kinds = {hint, *typing.get_args(hint)}
    if not kinds & {int, float}:
        return None
    whole, low, high = int in kinds, f.metadata.get("minimum"), f.metadata.get("maximum")
    most = COUNT.high if whole else WEIGHT.high
    name = "a whole number" if whole else "a number"
    given = f.metadata.get("of")
    return given or Quantity(name, -most if low is None else low, most if high is None else high, whole)


def apply(step: Pass, source: Artifact, final: Path, context: PassContext) -> Artifact:
    """Run `step` on `source`; the new artifact appears at `final` whole, or not at all.

    Raises RecipeError where the pass does not take the source's format, PassError where it does not take
    graphs with a cache.
    """
    if source.format not in step.accepts:
        raise RecipeError(
            f"{step.name()} takes {' or '.join(sorted(step.accepts))}, received {source.format!r}.",
            hint="Check the order of the passes.",
        )
    if context.task.generates and source.format == "onnx" and not step.takes_cache:
        able = ", ".join(sorted(n for n, cls in PASSES.items() if cls.takes_cache))
        raise PassError(
            f"{step.name()} does not take the graph of a language model, which has a cache.",
            hint=f"These do: {able}.",
        )
    begun = time.monotonic()
    with staged(final) as folder:
        notes = step.run(source, folder, context)
        tokenization.record(folder, source.path)
        made = seal(
            folder,
            source,
            {
                "pass": step.name(),
                "parameters": step.parameters(),
                "notes": notes,
                "seconds": round(time.monotonic() - begun, 3),
            },
            format=step.produces,
            precision=step.made_precision(source) or source.precision,
            task=context.task.name,
            runtime={"name": step.runtime, "options": step.runtime_options(notes)} if step.runtime else None,
        )
    return relocated(made, final)


def make(name: str, parameters: dict[str, Any]) -> Pass:
    """The pass called `name` with `parameters`. RecipeError names the nearest valid name.

    >>> make("quantize-dynamic", {"per_channel": False}).parameters()["per_channel"]
    False
    """
    cls = PASSES[name]
    fields = [f.name for f in dataclasses.fields(cls)]
    for key in parameters:
        if key not in fields:
            raise RecipeError(f"{name} has no field {key!r}.", hint=did_you_mean(key, fields))
    return cls(**parameters)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
