"""Audio classification: one sound → one label, or several: keywords, emotions, languages, events.

Labels, metrics and predictions are those of text classification; only what goes in differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from optkit.core.artifact import Artifact
from optkit.data import audio
from optkit.errors import CheckpointError, DataError
from optkit.models.sound import SoundEncoder
from optkit.tasks.base import Columns, Labelled
from optkit.tasks.label_columns import REGRESSION
from optkit.tasks.sound import SoundInput
from optkit.tasks.text_classification import COLUMNS as TEXT_COLUMNS
from optkit.tasks.text_classification import TextClassification

if TYPE_CHECKING:
    import datasets


#: Families whose classifiers of sounds are called as those of texts are.
_FAMILIES = (
    *("Wav2Vec2", "Wav2Vec2Conformer", "Hubert", "WavLM", "SEW", "SEWD", "UniSpeech", "UniSpeechSat"),
    "Data2VecAudio",
)
#: Column names looked for, in this order.
COLUMNS = {
    "text": audio.COLUMNS,
    "label": ("label", "labels", "emotion", "keyword", "language", *TEXT_COLUMNS["label"]),
}


@dataclass
class AudioClassification(SoundInput, TextClassification):
    """`labels` by index, `problem` as transformers calls it; predictions are `Classification`."""

    name: ClassVar[str] = "audio-classification"
    sentence_transformers: ClassVar[str] = ""
    architectures: ClassVar[tuple[str, ...]] = (
        *("ForAudioClassification", "ASTForAudioClassification"),
        *(f"{family}ForSequenceClassification" for family in _FAMILIES),
    )
    auto_class: ClassVar[str] = "AutoModelForAudioClassification"
    columns: ClassVar = COLUMNS
    encoder: SoundEncoder  # type: ignore[assignment]

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Self:
        task = super().from_artifact(artifact, metric)
        if task.problem == REGRESSION:
            raise CheckpointError("Expected a model with at least two labels, received one: a regression.")
        return task

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        references = self.references(rows, label)
        inputs = audio.playable(rows, name)
        sources = [x if isinstance(x, str) else f"sound {i}" for i, x in enumerate(inputs)]
        return Labelled(self.encode(inputs), references, sources, inputs, columns=Columns(name, None, label))

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        return cls.holds_audio(rows, columns) and super().fits(rows, columns)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        config = super().training_config(rows, columns)
        if config["problem_type"] == REGRESSION:
            raise DataError("Expected a class per sound, received numbers with a fraction.")
        return config


TASK = AudioClassification
