"""Automatic speech recognition by a model that writes a character or none each 20 ms (CTC): speech → text.

The name is that of transformers' pipeline, as those of the other tasks are; models with a decoder, which go
by it too, are in `optkit.tasks.written_speech`. Long audio is read in windows of 30 seconds that share 5 at
each end, as the pipeline does it with chunk_length_s=30.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet, Windows
from optkit.errors import CheckpointError, DataError
from optkit.models.ctc import VOCABULARY, Characters
from optkit.models.sound import SoundEncoder, frame_count
from optkit.models.task import Shape
from optkit.runtimes.seq2seq import HEARS
from optkit.tasks.base import Columns, Field, Labelled, Outputs
from optkit.tasks.labelled import Input
from optkit.tasks.speech import Speech

if TYPE_CHECKING:
    import datasets
    import torch


#: Seconds of a window, and of what it shares with each neighbour.
WINDOW_S, SHARED_S = 30, 5


@dataclass(frozen=True)
class Word:
    """From `start` to `end`, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcription:
    """What was said in `seconds` of sound, and its words. `score` is the mean, over the frames in which
    something was written, of the largest probability."""

    text: str
    score: float
    seconds: float | None = None
    words: list[Word] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.text


@dataclass
class SpeechRecognition(Speech):
    """`characters` are what the model writes."""

    auto_class: ClassVar[str] = "AutoModelForCTC"
    timed_by: ClassVar[str] = "word"
    characters: Characters
    metric: str
    encoder: SoundEncoder

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> type[Any]:
        if config.get("model_type") not in HEARS:
            return cls

        from optkit.tasks.written_speech import WrittenSpeech

        return WrittenSpeech

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        encoder = cls.open_encoder(artifact.path)
        if encoder.shape != ("sequence",):
            raise CheckpointError(
                f"Expected a model that reads samples, received {artifact.config.get('model_type')}."
            )
        return cls(Characters.read(artifact.path), cls.checked_metric(metric), encoder)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "frames", model.config.vocab_size)}

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        rows: list[np.ndarray] = []
        owner, picks, lengths = [], [], []
        for i, item in enumerate(inputs):
            values = self.encoder.samples(item, i)
            lengths.append(np.array([len(values)]))
            for window, left, right in self.windows(values):
                rows.append(self.encoder.features(window))
                picks.append(self._frames_of(len(window), left, right))
                owner.append(i)
        windows = Windows(np.array(owner, dtype=np.int64), picks, {"samples": lengths})
        return EncodedSet({self.encoder.name: rows}, {}, windows=windows)

    def windows(self, values: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
        """Parts of (samples,), with how many samples of each its neighbours to both sides answer for."""
        rate, step = self.encoder.rate, self._per_frame
        whole, shared = (round(s * rate / step) * step for s in (WINDOW_S, SHARED_S))
        for start in range(0, len(values), whole - 2 * shared):
            last = start + whole >= len(values)
            yield values[start : start + whole], shared if start else 0, 0 if last else shared
            if last:
                break

    @property
    def _per_frame(self) -> int:
        return int(np.prod(self.encoder.config["conv_stride"]))

    def _frames_of(self, samples: int, left: int, right: int) -> np.ndarray:
        """Frames of a window that count: shares of its length, rounded, as the pipeline has it."""
        count = round(samples * (1 / self._per_frame))
        first, after = round(left / samples * count), round(right / samples * count)
        return np.arange(first, min(count - after, frame_count(self.encoder.config, samples)))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        labelled = super().read(rows, columns)
        spelled = [" ".join(self.characters.spelled(text).split()) for text in labelled.references]
        return replace(labelled, references=spelled)

    def decode(self, outputs: Outputs) -> list[Transcription]:
        seconds = [int(n[0]) / self.encoder.rate for n in outputs.get("samples", ())]
        return [
            self._transcribed(np.asarray(logits), seconds[i] if seconds else None)
            for i, logits in enumerate(outputs["logits"])
        ]

    def _transcribed(self, logits: np.ndarray, seconds: float | None) -> Transcription:
        ids = logits.argmax(axis=1)
        pieces = self.characters.pieces(ids)
        step = self._per_frame / self.encoder.rate
        words = [Word(w.text, w.start * step, w.end * step) for w in self.characters.words(pieces)]
        largest = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        written = np.concatenate([np.arange(p.start, p.end) for p in pieces] or [np.arange(len(ids))])
        return Transcription(self.characters.text(pieces), float(largest[written].mean()), seconds, words)

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The texts, (examples,)."""
        texts = [self.characters.text(self.characters.pieces(x.argmax(axis=1))) for x in outputs["logits"]]
        return np.array(texts, dtype=object)

    def gives(self) -> tuple[Field, ...]:
        return Field("text"), Field("score", "FP32")

    def fields(self, answer: Transcription) -> tuple[Any, ...]:
        return answer.text, answer.score

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """The characters of the data, for a source that has no vocabulary of its own."""
        texts = texts_of(rows, cls.column(rows.column_names, "label", columns))
        letters = sorted({letter for text in texts for letter in text} - {" ", "|"})
        return {"characters": letters, "ctc_loss_reduction": "mean"}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Self:
        has_own = (source.path / VOCABULARY).exists()
        characters = Characters.read(source.path) if has_own else Characters.of(config["characters"])
        return cls(characters, cls.metrics[0], cls.open_encoder(source.path))

    def network(
        self, source: Artifact, config: dict[str, Any], load: Callable[..., torch.nn.Module]
    ) -> torch.nn.Module:
        known = {name: value for name, value in config.items() if name != "characters"}
        size, blank = max(self.characters.tokens) + 1, self.characters.blank_id
        return load(self.auto_class, **known, vocab_size=size, pad_token_id=blank)

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """Raises DataError for what is longer than a window, or has more characters than frames."""
        windows = labelled.encoded.windows
        assert windows is not None
        if len(windows.owner) > len(labelled.references):
            raise DataError(
                f"Expected utterances of at most {WINDOW_S} seconds to learn from, received a longer one: "
                f"{labelled.sources[int(np.flatnonzero(np.bincount(windows.owner) > 1)[0])]!r}.",
                hint="Cut it where nobody speaks, with the part of the text that is said in each.",
            )
        for i, (text, frames) in enumerate(zip(labelled.references, windows.picks)):
            ids = self.characters.ids(text)
            needed = len(ids) + sum(a == b for a, b in pairwise(ids))
            if not 0 < needed <= len(frames):
                raise DataError(
                    f"Expected a text of 1 to {len(frames)} characters, for which {labelled.sources[i]!r} is "
                    f"long enough, received {needed}: {text[:80]!r}.",
                    hint="Take the row away, or correct its text.",
                )
        return labelled

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        ids = (self.characters.ids(text) for text in labelled.references)
        return {"labels": [np.array(row, dtype=np.int64) for row in ids]}

    def save(self, network: torch.nn.Module, folder: Path) -> None:
        super().save(network, folder)
        self.characters.save(folder)


TASK = SpeechRecognition
