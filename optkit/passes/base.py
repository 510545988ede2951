"""`Pass`: one step that turns an artifact into a new one, and `apply`, which runs it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact, relocated, seal
from optkit.core.output import staged
from optkit.data.examples import EncodedSet
from optkit.errors import RecipeError, did_you_mean
from optkit.models import tokenization
from optkit.passes import PASSES, fields
from optkit.passes.fields import param as param
from optkit.passes.taken import refuse_cache, refuse_encoder_decoder
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
    #: Whether it takes models that write a text from another, which have an encoder and a decoder.
    takes_encoder_decoder: ClassVar[bool] = False
    takes_towers: ClassVar[bool] = False  # one that reads texts and one that reads images
    #: Whether the result is meant to answer as its source does, whatever the weights.
    keeps_answers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        fields.check(self, self.name())

    @classmethod
    def name(cls) -> str:
        """The class name in kebab-case: ExportOnnx → export-onnx."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return inspect.getdoc(cls).splitlines()[0]  # type: ignore[union-attr]

    def precision_of(self, source: Artifact) -> str | None:
        """Precision of the result from `source`; None: the source's own."""
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
    refuse_encoder_decoder(step, context.task)
    refuse_cache(step, source, context.task)
    begun = time.monotonic()
    with staged(final) as folder:
        notes = step.run(source, folder, context)
        tokenization.record(folder, source.path)
        seconds = round(time.monotonic() - begun, 3)
        written = seal(
            folder,
            source,
            {"pass": step.name(), "parameters": step.parameters(), "notes": notes, "seconds": seconds},
            format=step.produces,
            precision=step.precision_of(source) or source.precision,
            task=context.task.name,
            runtime={"name": step.runtime, "options": step.runtime_options(notes)} if step.runtime else None,
        )
    return relocated(written, final)


def make(name: str, parameters: dict[str, Any]) -> Pass:
    """The pass called `name` with `parameters`. RecipeError names the nearest valid name.

    >>> make("quantize-dynamic", {"per_channel": False}).parameters()["per_channel"]
    False
    """
    cls = PASSES[name]
    known = [f.name for f in dataclasses.fields(cls)]
    for key in parameters:
        if key not in known:
            raise RecipeError(f"{name} has no field {key!r}.", hint=did_you_mean(key, known))
    return cls(**parameters)
