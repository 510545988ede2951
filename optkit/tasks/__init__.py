"""The tasks, one file each, which ends with `TASK = ...`."""

from __future__ import annotations

#: Task name → the module that holds it; nothing is imported until a task is opened.
TASKS = {
    name: f"optkit.tasks.{name.replace('-', '_')}"
    for name in (
        "causal-lm",
        "embeddings",
        "image-classification",
        "question-answering",
        "text-classification",
        "token-classification",
    )
}
