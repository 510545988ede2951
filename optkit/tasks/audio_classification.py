"""Audio classification: one sound → one label, or several: keywords, emotions, languages, events.

Labels, metrics and predictions are those of text classification; only what goes in differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from optkit.data import audio
from optkit.models.sound import SoundEncoder
from optkit.tasks.base import Columns
from optkit.tasks.files import FileClassification
from optkit.tasks.labelled import Input
from optkit.tasks.sound import SoundInput
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS

if TYPE_CHECKING:
    import datasets


#: Families whose classifiers of sounds are called as those of texts are.
_FAMILIES = (
    *("Wav2Vec2", "Wav2Vec2Bert", "Wav2Vec2Conformer", "Hubert", "WavLM", "SEW", "SEWD", "UniSpeech"),
    *("UniSpeechSat", "Data2VecAudio"),
)
#: Column names looked for, in this order.
COLUMNS = {
    "text": audio.COLUMNS,
    "label": ("label", "labels", "emotion", "keyword", "language", *TEXT_COLUMNS["label"]),
}


@dataclass
class AudioClassification(SoundInput, FileClassification):
    """`labels` by index, `problem` as transformers calls it; predictions are `Classification`."""

    name: ClassVar[str] = "audio-classification"
    architectures: ClassVar[tuple[str, ...]] = (
        *("ForAudioClassification", "ASTForAudioClassification"),
        *(f"{family}ForSequenceClassification" for family in _FAMILIES),
    )
    auto_class: ClassVar[str] = "AutoModelForAudioClassification"
    columns: ClassVar = COLUMNS
    encoder: SoundEncoder  # type: ignore[assignment]

    def inputs_of(self, rows: datasets.Dataset, name: str) -> list[Input]:
        return audio.playable(rows, name)

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        return cls.holds_audio(rows, columns) and super().fits(rows, columns)


TASK = AudioClassification
