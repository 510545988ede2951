"""`Speech`: what models that write down what was said have in common: the data, and the count of errors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.data import audio
from optkit.data.columns import texts_of
from optkit.errors import MissingDependency
from optkit.tasks.base import Columns, Labelled
from optkit.tasks.labelled import Answer
from optkit.tasks.sound import SoundInput

if TYPE_CHECKING:
    import datasets


#: Column names looked for, in this order.
COLUMNS = {
    "text": audio.COLUMNS,
    "label": ("transcription", "sentence", "transcript", "text", "normalized_text"),
}


class Speech(SoundInput):
    """`metric` is the rate of word errors or of character errors, negated: errors of all utterances over the
    words (characters) of all references."""

    name: ClassVar[str] = "automatic-speech-recognition"
    architectures: ClassVar[tuple[str, ...]] = ("ForCTC", "WhisperForConditionalGeneration")
    transcribes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("neg_wer", "neg_cer")
    columns: ClassVar = COLUMNS
    parts: ClassVar = {**SoundInput.parts, "label": "transcription"}
    sameness: ClassVar[str] = "the same text"

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        references = texts_of(rows, label, "Name the right column with --label-column.")
        inputs = audio.playable(rows, name)
        sources, encoded = self.named(inputs), self.encode(inputs)
        return Labelled(encoded, references, sources, inputs, columns=Columns(name, None, label))

    def compared(self, text: str) -> str:
        """What of a text counts for the metric."""
        return text

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        by_character = self.metric == "neg_cer"
        pairs = ((self.compared(str(a)), self.compared(str(r))) for a, r in zip(answers, references))
        counts = [errors(answer, reference, by_character) for answer, reference in pairs]
        wrong, length = (sum(part) for part in zip(*counts))
        return -wrong / length if length else float("nan")

    def line(self, answer: Answer) -> str:
        return str(answer.text)

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        named = columns.label is not None or any(n in rows.column_names for n in cls.columns["label"])
        return named and cls.holds_audio(rows, columns)


@lru_cache(maxsize=2**16)
def errors(answer: str, reference: str, by_character: bool) -> tuple[int, int]:
    """(words, or characters, that are wrong, missing or too many; those of the reference), by jiwer."""
    try:
        import jiwer
    except ImportError as reason:
        raise MissingDependency.of("jiwer", "audio") from reason
    if not reference.strip():
        return len(answer if by_character else answer.split()), 0
    measure: Any = jiwer.process_characters if by_character else jiwer.process_words
    counts = measure(reference, answer)
    wrong = counts.substitutions + counts.deletions
    return wrong + counts.insertions, wrong + counts.hits
