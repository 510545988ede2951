"""`Session`: a loaded model that answers.

One file per runtime lies under `runtimes/`; importing one does not import the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, TypeAlias

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import OptkitError, RecipeError
from optkit.models.limits import token_limit
from optkit.runtimes import RUNTIMES, token_logprobs
from optkit.runtimes.settings import runtime_settings, settings_of

Feeds = dict[str, np.ndarray]
#: What a runtime, or the writing of a text, is set to by name: a number, a word, true or false.
Setting: TypeAlias = Any


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` holds sizes, or names for dynamic dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Decoder(ABC):
    """A causal language model in the middle of a batch of texts; its cache holds what it has read."""

    @abstractmethod
    def step(self, tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Read `tokens` (batch, new), and give the logits (batch, vocabulary) behind the last of them.

        `attention_mask` (batch, all tokens so far and new ones) is 0 at padding, which lies on the left.
        """


class Session(ABC):
    """A model in memory. A context manager; results are ready when `infer` returns.

    A session never times itself: the harness owns the clock.
    """

    #: The package that computes, and the extra of optkit that brings it; "": the base install has it.
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    #: Whether several threads may call `infer` at once.
    thread_safe: ClassVar[bool] = True
    #: Whether batches may be padded to a multiple of tokens (`optkit.runtimes.bucketed`).
    takes_bucket: ClassVar[bool] = True
    #: The options that a manifest may set, with their values: what changes speed, and nothing else. A
    #: manifest is data from a stranger: paths, and whose code may run, come from the caller alone.
    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {}
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    #: Where it computes: cpu or cuda.
    device: str = "cpu"
    #: What its floating-point operators compute in, where that is a setting.
    precision: str | None = None

    @classmethod
    def on_this_machine(cls, artifact: Artifact, stored: dict[str, Any]) -> dict[str, Any]:
        """The options `stored` in the manifest, as far as they are right on this machine."""
        return stored

    @abstractmethod
    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """Run the model once.

        `feeds` maps input names to arrays, batch first; names the model does not know are
        ignored, so that one encoded batch feeds every runtime. Returns outputs by name.
        Raises OptkitError when an input is missing.
        """

    def decoder(self) -> Decoder:
        """A fresh decoder, for one batch of texts. Raises OptkitError where the model does not generate."""
        raise OptkitError(
            f"{type(self).__name__} does not generate text.",
            hint="Causal language models do in torch, in ONNX Runtime, and in OpenVINO (open-vino-stateful).",
        )

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked. Nothing to wait for on a CPU."""
        return

    def mark(self) -> object:
        """An event at this point of the device's work; None where there is none to be had."""
        return None

    def elapsed_ms(self, begin: object, end: object) -> float:
        """Milliseconds of the device between two marks, after waiting for the second."""
        raise NotImplementedError(f"{type(self).__name__} gives no marks.")

    def close(self) -> None:
        """Free the model. Calling it twice is fine."""
        return

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def per_token(self) -> list[str]:
        """Outputs with a value for every token: their second dimension is dynamic."""
        return [s.name for s in self.outputs if len(s.shape) > 1 and isinstance(s.shape[1], str)]

    def select(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        """The feeds this model takes, in its own order; an error names the ones that are missing."""
        missing = [spec.name for spec in self.inputs if spec.name not in feeds]
        if missing:
            raise OptkitError(
                f"Expected the inputs {[s.name for s in self.inputs]}, received {sorted(feeds)}: "
                f"{missing} missing."
            )
        return {spec.name: feeds[spec.name] for spec in self.inputs}


def open_session(
    artifact: Artifact, runtime: str | None = None, task: str | None = None, **options: Setting
) -> Session:
    """Load `artifact` in `runtime` (default: the manifest's, else the format's own).

    `task` names what it is for where its architecture tells another or none (torch loads it as that).
    `options` override the runtime options stored in the manifest (for example `threads`). Every runtime
    takes `bucket`: batches are padded to a multiple of so many tokens (`optkit.runtimes.bucketed`).
    Raises RecipeError for an unknown runtime or option, CheckpointError for one that a manifest may not set,
    and MissingDependency for an absent package.
    """
    from optkit.core.schema.graph_files import check_graphs

    name, options = settings_of(artifact, runtime, options)
    if task is not None and "task" in runtime_settings(name):  # what a graph computes is settled
        options["task"] = task
    bucket = options.pop("bucket", None)
    check_graphs(artifact.model_files)
    session: Session = RUNTIMES[name].open_session(artifact, **options)
    if bucket not in (None, 1):
        if not session.takes_bucket:
            session.close()
            raise RecipeError("A model that writes a text from another takes no bucket: leave it out.")
        bucketed = import_module("optkit.runtimes.bucketed")
        session = bucketed.Bucketed(session, bucket, token_limit(artifact.config))
    return session


def infer_all(
    session: Session,
    encoded: EncodedSet,
    batch_size: int,
    max_tokens: int,
    progress: Callable[[int], None] = lambda answered: None,
) -> dict[str, list[np.ndarray]]:
    """Every example's outputs by name, in the order of `encoded`; windows come back as examples.

    Batches hold neighbours in length, so that little work is padding. An output with a value per
    token is cut back to the example's own length. It is known by its second dimension, which
    equals the padded length in every batch: in one batch a number of labels may equal it by chance.
    `progress` is told how many examples are answered, after each batch.
    """
    lengths = encoded.lengths
    batches = list(encoded.batches(batch_size, max_tokens))
    padded = [int(lengths[indices].max()) for indices in batches]
    results, answered, picked = [], 0, dict[str, list[np.ndarray]]()
    for indices in batches:
        feeds = encoded.batch(indices)
        result = token_logprobs.reduced(feeds, session.infer(feeds))
        answered += len(indices)
        progress(answered)
        if encoded.windows is None:
            results.append(result)
            continue
        for name, value in result.items():  # at once: a value per token and word of a vocabulary is too much
            rows = picked.setdefault(name, [np.empty(0)] * len(encoded))
            for i, row in zip(indices, value):
                rows[i] = row[encoded.windows.picks[i]]
    if encoded.windows is not None:
        return encoded.windows.joined(picked)
    fixed = {s.name for s in session.outputs if len(s.shape) > 1 and isinstance(s.shape[1], int)}
    outputs: dict[str, list[np.ndarray]] = {}
    for name in results[0] if results else ():
        values = [result[name] for result in results]
        per_token = name not in fixed and all(
            value.ndim > 1 and value.shape[1] == length for value, length in zip(values, padded)
        )
        rows = outputs[name] = [np.empty(0)] * len(encoded)
        for indices, value in zip(batches, values):
            for i, row in zip(indices, value):
                rows[i] = row[: lengths[i]] if per_token else row
    return outputs
