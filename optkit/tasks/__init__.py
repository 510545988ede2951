"""The tasks, one file each, which ends with `TASK = ...`."""

from __future__ import annotations

from optkit.core.registry import Registry

TASKS = Registry(
    "task",
    "optkit.tasks",
    {
        "causal-lm": "optkit.tasks.causal_lm:TASK",
        "embeddings": "optkit.tasks.embeddings:TASK",
        "image-classification": "optkit.tasks.image_classification:TASK",
        "question-answering": "optkit.tasks.question_answering:TASK",
        "text-classification": "optkit.tasks.text_classification:TASK",
        "token-classification": "optkit.tasks.token_classification:TASK",
    },
)
