"""Models that read a text and write another: an encoder, and a decoder with a cache, as one `Session`.

`infer` takes a batch of sources and gives the texts that the model writes, as its generation_config.json
says. An ONNX artifact of such a model holds two graphs. `ENCODER` reads sources, and gives every layer's keys
and values of them, which are computed once; `DECODER` takes these and its own cache, and writes on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.files import read_json
from optkit.errors import CheckpointError
from optkit.runtimes.base import Feeds, Session, TensorSpec
from optkit.runtimes.kv_cache import PAST, PRESENT
from optkit.runtimes.search import Writer
from optkit.runtimes.search_settings import SearchSettings

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
#: Keys and values of the source, in both graphs: cross.0.key (batch × heads × source tokens × head size).
CROSS = "cross."
#: The output of `infer`: token ids of each text, the end token included, `NONE` behind it.
SEQUENCES, NONE = "sequences", -1
#: A feed beside the source: write exactly so many tokens, so that models are timed at equal work.
EXACTLY = "new_tokens"


def tensor_names(layers: int) -> tuple[list[str], list[str], list[str]]:
    """Names of the tensors of the source, of the cache going in and coming out, in order of the layers.

    >>> tensor_names(1)[0]
    ['cross.0.key', 'cross.0.value']
    """
    parts = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    return tuple([prefix + part for part in parts] for prefix in (CROSS, PAST, PRESENT))  # type: ignore[return-value]


class Seq2SeqSession(Session):
    """`settings` say how its texts are written."""

    takes_bucket: ClassVar[bool] = False
    settings: SearchSettings

    @abstractmethod
    def writer(self, feeds: Mapping[str, np.ndarray], copies: int = 1) -> Writer:
        """Read the sources `feeds`, and write behind each of them `copies` times, in rows that follow each
        other."""

    @abstractmethod
    def write(self, feeds: Mapping[str, np.ndarray], settings: SearchSettings) -> np.ndarray:
        """The tokens of a text for each source, (sources, tokens), the start left out; behind its end
        anything."""

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        settings = self.settings
        if EXACTLY in feeds:
            settings = settings.exactly(int(feeds[EXACTLY].flat[0]))
        return {SEQUENCES: ended(self.write(self.select(feeds), settings), settings)}

    def _specify(self) -> None:
        """Say what goes in and comes out, once `settings` are known."""
        source = ("batch", "sequence")
        self.inputs = tuple(TensorSpec(name, "int64", source) for name in ("input_ids", "attention_mask"))
        self.outputs = (TensorSpec(SEQUENCES, "int64", ("batch", self.settings.max_length - 1)),)


def settings_of(artifact: Artifact) -> SearchSettings:
    """How the texts of `artifact` are written. Raises CheckpointError where it does not say so."""
    file = artifact.path / "generation_config.json"
    if not file.exists():
        raise CheckpointError(
            f"Expected generation_config.json in {str(artifact.path)!r}, which says how texts are written.",
            hint="model.generation_config.save_pretrained(folder) writes it.",
        )
    return SearchSettings.of(read_json(file, CheckpointError), artifact.config)


def ended(tokens: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """`tokens` (rows, written) as (rows, longest) int64, `NONE` behind the first end of each."""
    out = np.full((len(tokens), settings.max_length - 1), NONE, dtype=np.int64)
    for row, text in zip(out, tokens):
        ends = np.flatnonzero(np.isin(text, settings.ends))
        text = text[: ends[0] + 1] if len(ends) else text
        row[: len(text)] = text
    return out
