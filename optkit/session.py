"""`Session`: a loaded model that answers.

One file per runtime lies under `runtimes/`; the file's name is the runtime's name, and
importing one does not import the others.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar, get_type_hints

import numpy as np

from optkit import likelihood
from optkit.artifact import Artifact, longest_input
from optkit.errors import MissingDependency, OptkitError, RecipeError, did_you_mean
from optkit.examples import EncodedSet

Feeds = dict[str, np.ndarray]

#: The runtime that serves each artifact format unless another one is named.
DEFAULT_RUNTIME = {"hf": "torch", "onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
#: The package each runtime needs, and the extra that brings it.
_NEEDS = {
    "torch": ("torch", "compress"),
    "onnxruntime": ("onnxruntime", "serve"),
    "openvino": ("openvino", "openvino"),
    "tensorrt": ("tensorrt", "tensorrt"),
}


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

    #: Whether several threads may call `infer` at once.
    thread_safe: ClassVar[bool] = True
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    #: Where it computes: cpu or cuda.
    device: str = "cpu"

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
            hint="Causal language models generate in torch and in ONNX Runtime.",
        )

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked. Nothing to wait for on a CPU."""
        return

    def mark(self) -> Any:
        """An event at this point of the device's work; None where there is none to be had."""
        return None

    def elapsed_ms(self, begin: Any, end: Any) -> float:
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


def known_runtimes() -> list[str]:
    """The runtimes that have a file, whether or not their package is installed."""
    return sorted(module.name for module in iter_modules([str(Path(__file__).with_name("runtimes"))]))


def chosen_runtime(artifact: Artifact, runtime: str | None = None) -> str:
    """`runtime`, else the manifest's, else the format's own. Raises RecipeError for an unknown one."""
    stored = artifact.manifest.get("runtime") or {}
    name = runtime or stored.get("name") or DEFAULT_RUNTIME[artifact.format]
    if name not in known_runtimes():
        raise RecipeError(f"Unknown runtime {name!r}.", hint=did_you_mean(name, known_runtimes()))
    return name


def runtime_settings(runtime: str) -> frozenset[str]:
    """The names of the options that a known runtime takes."""
    module = import_module(f"optkit.runtimes.{runtime}")
    kind = get_type_hints(module.open_session)["return"]
    return frozenset(inspect.signature(kind).parameters) - {"artifact"} | {"bucket"}


def open_session(
    artifact: Artifact, runtime: str | None = None, task: str | None = None, **options: Any
) -> Session:
    """Load `artifact` in `runtime` (default: the manifest's, else the format's own).

    `task` names what it is for where its architecture tells another or none (torch loads it as that).
    `options` override the runtime options stored in the manifest (for example `threads`). Every runtime
    takes `bucket`: batches are padded to a multiple of so many tokens (`optkit.bucketed`).
    Raises RecipeError for an unknown runtime or option, and MissingDependency for an absent package.
    """
    stored = artifact.manifest.get("runtime") or {}
    name = chosen_runtime(artifact, runtime)
    if name in _NEEDS and util.find_spec(_NEEDS[name][0]) is None:
        raise MissingDependency.of(*_NEEDS[name])
    if name == stored.get("name"):
        options = {**stored.get("options", {}), **options}
    known = runtime_settings(name)
    for option in options:
        if option not in known:
            raise RecipeError(
                f"The runtime {name} has no setting {option!r}.", hint=did_you_mean(option, known)
            )
    if task is not None and "task" in known:  # what a graph computes is settled
        options["task"] = task
    bucket = options.pop("bucket", None)
    session = import_module(f"optkit.runtimes.{name}").open_session(artifact, **options)
    if bucket in (None, 1):
        return session
    return import_module("optkit.bucketed").Bucketed(session, bucket, longest_input(artifact.config))


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
    results, answered = [], 0
    for indices in batches:
        feeds = encoded.batch(indices)
        results.append(likelihood.reduced(feeds, session.infer(feeds)))
        answered += len(indices)
        progress(answered)
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
    return encoded.windows.gather(outputs) if encoded.windows else outputs
