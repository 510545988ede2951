"""Each task as the users of transformers and sentence-transformers run it: one file per task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optkit.benchmarking.reference.base import Reference
from optkit.core.registry import Registry

if TYPE_CHECKING:
    from optkit.tasks.base import Task

#: `Task.reference` → how a user of the libraries runs it.
REFERENCES: Registry[type[Reference]] = Registry(
    "reference",
    "optkit.references",
    {
        "audio-classification": "optkit.benchmarking.reference.audio_classification:REFERENCE",
        "automatic-speech-recognition": "optkit.benchmarking.reference.speech_recognition:REFERENCE",
        "causal-lm": "optkit.benchmarking.reference.causal_lm:REFERENCE",
        "cross-encoder": "optkit.benchmarking.reference.cross_encoder:REFERENCE",
        "embeddings": "optkit.benchmarking.reference.embeddings:REFERENCE",
        "image-classification": "optkit.benchmarking.reference.image_classification:REFERENCE",
        "layout-token-classification": "optkit.benchmarking.reference.layout_token_classification:REFERENCE",
        "multi-vector-embeddings": "optkit.benchmarking.reference.multi_vector_embeddings:REFERENCE",
        "multiple-choice": "optkit.benchmarking.reference.multiple_choice:REFERENCE",
        "object-detection": "optkit.benchmarking.reference.object_detection:REFERENCE",
        "question-answering": "optkit.benchmarking.reference.question_answering:REFERENCE",
        "rerank": "optkit.benchmarking.reference.rerank:REFERENCE",
        "semantic-segmentation": "optkit.benchmarking.reference.semantic_segmentation:REFERENCE",
        "sparse-embeddings": "optkit.benchmarking.reference.sparse_embeddings:REFERENCE",
        "text-classification": "optkit.benchmarking.reference.text_classification:REFERENCE",
        "text2text": "optkit.benchmarking.reference.text2text:REFERENCE",
        "token-classification": "optkit.benchmarking.reference.token_classification:REFERENCE",
        "written-speech": "optkit.benchmarking.reference.written_speech:REFERENCE",
        "zero-shot-classification": "optkit.benchmarking.reference.zero_shot_classification:REFERENCE",
        "zero-shot-image-classification": "optkit.benchmarking.reference.two_towers:REFERENCE",
    },
)


def reference_of(task: Task) -> type[Reference] | None:
    """How a user of the libraries runs the models of `task`; None where nobody says it.

    A task without a class here declares it: its Auto class, and `plain_outputs`, `plain_answers`.
    """
    if task.reference in REFERENCES:
        return REFERENCES[task.reference]
    if not task.has_plain_outputs:
        return None

    from optkit.benchmarking.reference.declared import DeclaredModel

    class Declared(DeclaredModel):
        auto, declared = task.auto_class, task

    return Declared
