"""Automatic speech recognition by a model with an encoder and a decoder (Whisper): speech → text, with times.

`predict` writes what is said as transformers' `generate` does (`optkit.runtimes.speech`): up to 30 seconds in
one window, more in windows that begin where the last one was understood, whatever the length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError, RecipeError, did_you_mean
from optkit.models.sound import SoundEncoder
from optkit.models.text import TextEncoder
from optkit.runtimes.seq2seq import generation_of
from optkit.runtimes.speech import ASKED, FRAMES, SEGMENTS, SEQUENCES, SpeechSettings
from optkit.tasks import text_metrics
from optkit.tasks.base import Columns, Field, Labelled, Outputs
from optkit.tasks.labelled import Input
from optkit.tasks.speech import Speech
from optkit.tasks.teacher_forcing import TeacherForced

if TYPE_CHECKING:
    import datasets


#: What `predict` may be asked for.
OPTIONS = ("language", "translate", "timestamps")


@dataclass(frozen=True)
class Segment:
    """From `start` to `end`, in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Transcript:
    """What was said, and its segments where times were asked for, or the sound is longer than a window."""

    text: str
    segments: list[Segment] = field(default_factory=list)

    @property
    def label(self) -> str:
        return self.text


@dataclass(frozen=True)
class Asked:
    """A sound, and how it is to be written: a row of the feed `ASKED`."""

    sound: Input
    row: np.ndarray


@dataclass
class WrittenSpeech(TeacherForced, Speech):
    """For the metric, case and punctuation count no more than they do in published word error rates."""

    auto_class: ClassVar[str] = "AutoModelForSpeechSeq2Seq"
    timed_by: ClassVar[str] = "segment"
    metric: str
    encoder: SoundEncoder
    words: TextEncoder
    speech: SpeechSettings
    folder: Path = Path()

    @property
    def reference(self) -> str:
        return "written-speech"

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        encoder = cls.open_encoder(artifact.path)
        speech = SpeechSettings.of(generation_of(artifact), artifact.config)
        bands, frames = int(artifact.config["num_mel_bins"]), speech.window
        if encoder.shape != (bands, frames):
            raise CheckpointError(
                f"Expected preprocessor_config.json to make ({bands}, {frames}) numbers of a sound, which "
                f"the model reads, received {encoder.shape}.",
                hint="Copy it from the model that this one was made from.",
            )
        words = TextEncoder(artifact.path)
        return cls(cls.checked_metric(metric), encoder, words, speech, artifact.path)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        usual = self.speech.asked()
        asked = [item if isinstance(item, Asked) else Asked(item, usual) for item in inputs]
        samples = (self.encoder.samples(item.sound, i) for i, item in enumerate(asked))
        rows = [self.encoder.features(values, whole=True) for values in samples]
        return EncodedSet({self.encoder.name: rows, ASKED: [item.row for item in asked]}, {})

    def prepared(self, inputs: Sequence[Any], options: Mapping[str, Any]) -> Sequence[Any]:
        """Of the `options`, `language` is a name or a code, `translate` into English, `timestamps`."""
        if unknown := next((name for name in options if name not in OPTIONS), None):
            raise RecipeError(
                f"Unknown option {unknown!r} of {self.name}.", hint=did_you_mean(unknown, OPTIONS)
            )
        if not options:
            return inputs
        translate, timestamps = options.get("translate"), options.get("timestamps")
        task = None if translate is None else "translate" if translate else "transcribe"
        row = self.speech.asked(options.get("language"), task, timestamps)
        return [Asked(item, row) for item in inputs]

    def decode(self, outputs: Outputs) -> list[Transcript]:
        return [
            Transcript(self._text(tokens), self._segments(tokens, cuts))
            for tokens, cuts in zip(outputs[SEQUENCES], outputs[SEGMENTS])
        ]

    def _segments(self, tokens: np.ndarray, cuts: np.ndarray) -> list[Segment]:
        if not len(tokens) or tokens[0] < self.speech.first_time:  # no times were asked for
            return []
        parts = np.split(tokens, np.cumsum(cuts[:-1, 2]))
        return [
            Segment(self._text(part), start / FRAMES, end / FRAMES)
            for part, (start, end, _) in zip(parts, cuts.tolist())
        ]

    def _text(self, tokens: np.ndarray) -> str:
        """Tokens of time left out; no character goes on behind one."""
        parts = np.split(tokens, np.flatnonzero(tokens >= self.speech.first_time))
        words = (part[part < self.speech.first_time].tolist() for part in parts)
        return "".join(map(self.words.text, words)).strip()

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The texts, (examples,); of training what `TeacherForced` scores."""
        if (likelihoods := self.likelihoods(outputs)) is not None:
            return likelihoods
        texts = np.empty(len(outputs[SEQUENCES]), dtype=object)
        texts[:] = [self._text(tokens) for tokens in outputs[SEQUENCES]]
        return texts

    def compared(self, text: str) -> str:
        return normalized(text)

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        if self.metric == text_metrics.TRAINED_BY:
            return text_metrics.score(self.metric, list(answers), list(references))
        return super().score(answers, references)

    def gives(self) -> tuple[Field, ...]:
        return (Field("text"),)

    def fields(self, answer: Transcript) -> tuple[Any, ...]:
        return (answer.text,)

    def describe(self, answer: Transcript) -> dict[str, Any]:
        return asdict(answer)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        return {}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Self:
        task = cls.from_artifact(source)
        task.metric = text_metrics.TRAINED_BY
        if None in task.speech.prompt(task.speech.asked(), timestamps=False):
            raise RecipeError(
                "Expected the language of the data in generation_config.json, received none: a model of "
                "several languages is trained on one.",
                hint='Add to that file, such as: "language": "german", "task": "transcribe".',
            )
        return task

    def to_learn(self, labelled: Labelled, seed: int | None) -> Labelled:
        """Raises DataError for a sound longer than a window, and for a text longer than the decoder reads."""
        window = self.speech.window
        for i, row in enumerate(labelled.encoded.arrays[self.encoder.name]):
            if row.shape[1] > window:
                raise DataError(
                    f"Expected sounds of at most {window / FRAMES:g} seconds to learn from, received a "
                    f"longer one: {labelled.sources[i]!r}.",
                    hint="Cut it where nobody speaks, with the part of the text that is said in each.",
                )
        for i, (ids, text) in enumerate(zip(self.targets(labelled)["labels"], labelled.references)):
            if len(ids) >= self.speech.positions:
                raise DataError(
                    f"Expected a text of less than {self.speech.positions} tokens, received {len(ids)} for "
                    f"{labelled.sources[i]!r}: {str(text)[:80]!r}.",
                    hint="Take the row away, or cut it with its sound.",
                )
        return labelled

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """What a text begins with, but for the first token, its own tokens as transformers' tokenizer reads
        them, and the end."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        begin = [t for t in self.speech.prompt(self.speech.asked(), timestamps=False)[1:] if t is not None]
        texts = tokenizer([str(t) for t in labelled.references], add_special_tokens=False)["input_ids"]
        end = self.speech.search.ends[0]
        return {"labels": [np.array([*begin, *text, end], dtype=np.int64) for text in texts]}


@lru_cache(maxsize=2**16)
def normalized(text: str) -> str:
    """`text` in lower case, with a space for every mark, symbol and punctuation, as word error rates of
    Whisper are published (A. Radford et al. 2022, appendix C; transformers' BasicTextNormalizer).

    >>> normalized("It's [noise] Dr. Müller!")
    'it s dr müller'
    """
    text = re.sub(r"[<\[][^>\]]*[>\]]|\([^)]+?\)", "", text.lower())
    text = unicodedata.normalize("NFKC", text)
    return " ".join("".join(" " if unicodedata.category(c)[0] in "MSP" else c for c in text).split())
