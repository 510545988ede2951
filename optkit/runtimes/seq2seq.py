"""Models that read a text, or a sound, and write a text: an encoder, and a decoder with a cache, as one
`Session`.

`infer` takes a batch of sources and gives the texts that the model writes, as its generation_config.json
says; `optkit.runtimes.speech` says how those of sounds are. An ONNX artifact of such a model holds two
graphs. `ENCODER` reads sources, and gives every layer's keys and values of them, which are computed once;
`DECODER` takes these and its own cache, and writes on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.files import read_json
from optkit.errors import CheckpointError
from optkit.runtimes.base import Feeds, Session, TensorSpec
from optkit.runtimes.kv_cache import PAST, PRESENT
from optkit.runtimes.search import Writer
from optkit.runtimes.search_settings import SearchSettings
from optkit.runtimes.speech import AS_STATED, ASKED, SEGMENTS, SpeechSettings
from optkit.runtimes.speech import SEQUENCES as SEQUENCES

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
#: Keys and values of the source, in both graphs: cross.0.key (batch × heads × source tokens × head size).
CROSS = "cross."
#: What `infer` gives where the source is a text: token ids of each, the end token included, `NONE` behind it.
NONE = -1
#: Kinds of models whose source is a sound.
HEARS = ("whisper",)
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
    """`settings` say how its texts are written, `speech` how those of sounds are, where it hears them."""

    takes_bucket: ClassVar[bool] = False
    settings: SearchSettings
    speech: SpeechSettings | None = None

    @abstractmethod
    def writer(self, feeds: Mapping[str, np.ndarray], copies: int = 1) -> Writer:
        """Read the sources `feeds`, and write behind each of them `copies` times, in rows that follow each
        other."""

    @abstractmethod
    def write(self, feeds: Mapping[str, np.ndarray], settings: SearchSettings) -> np.ndarray:
        """The tokens of a text for each source, (sources, tokens), the start left out; behind its end
        anything."""

    @abstractmethod
    def transcribe(self, features: np.ndarray, asked: np.ndarray, exactly: int | None) -> Feeds:
        """What is said in sounds that are all asked for alike, as `optkit.runtimes.speech.transcribe`."""

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        settings, exactly = self.settings, int(feeds[EXACTLY].flat[0]) if EXACTLY in feeds else None
        if self.speech is None:
            settings = settings if exactly is None else settings.exactly(exactly)
            return {SEQUENCES: ended(self.write(self.select(feeds), settings), settings)}
        (features,) = self.select(feeds).values()
        asked = feeds.get(ASKED, np.full((len(features), 3), AS_STATED))
        out = {name: np.empty(len(features), dtype=object) for name in (SEQUENCES, SEGMENTS)}
        for one in np.unique(asked, axis=0):
            rows = np.flatnonzero((asked == one).all(axis=1))
            for name, values in self.transcribe(features[rows], one, exactly).items():
                out[name][rows] = values
        return out

    def _configure(self, generation: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Say how texts are written, what goes in and what comes out."""
        if config.get("model_type") in HEARS:
            self.speech = SpeechSettings.of(generation, config)
            self.settings = self.speech.search
            shape = ("batch", int(config["num_mel_bins"]), "frames")
            self.inputs = (TensorSpec("input_features", "float32", shape),)
            self.outputs = tuple(TensorSpec(n, "int64", ("batch", "tokens")) for n in (SEQUENCES, SEGMENTS))
            return
        self.settings = SearchSettings.of(generation, config)
        source = ("batch", "sequence")
        self.inputs = tuple(TensorSpec(name, "int64", source) for name in ("input_ids", "attention_mask"))
        self.outputs = (TensorSpec(SEQUENCES, "int64", ("batch", self.settings.max_length - 1)),)


def generation_of(artifact: Artifact) -> dict[str, Any]:
    """generation_config.json of `artifact`. Raises CheckpointError where there is none."""
    file = artifact.path / "generation_config.json"
    if not file.exists():
        raise CheckpointError(
            f"Expected generation_config.json in {str(artifact.path)!r}, which says how texts are written.",
            hint="model.generation_config.save_pretrained(folder) writes it.",
        )
    return read_json(file, CheckpointError)


def ended(tokens: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """`tokens` (rows, written) as (rows, longest) int64, `NONE` behind the first end of each."""
    out = np.full((len(tokens), settings.max_length - 1), NONE, dtype=np.int64)
    for row, text in zip(out, tokens):
        ends = np.flatnonzero(np.isin(text, settings.ends))
        text = text[: ends[0] + 1] if len(ends) else text
        row[: len(text)] = text
    return out
