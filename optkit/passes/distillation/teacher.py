"""A student's teacher: where it lies, and whether it can teach that student."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from optkit.core.artifact import Artifact
from optkit.core.schema.tokenizer import open_tokenizer
from optkit.errors import CheckpointError, RecipeError
from optkit.models import tokenization
from optkit.models.checkpoint import fetch, locate
from optkit.models.pixels import reading


def find_teacher(name: str | Path) -> Artifact:
    """The checkpoint in a folder, or the hub's of that name, checked as `fetch` does; but code of its own is
    refused where it is loaded. Raises CheckpointError."""
    return fetch(name if os.path.exists(name) else _located(str(name)), trust_remote_code=True)


def check_teacher(student: Artifact, teacher: Artifact) -> None:
    """Refuse a teacher that gives other labels, or reads texts or images in another way.

    Raises CheckpointError, RecipeError.
    """
    if teacher.format != "hf":
        raise CheckpointError(
            f"Expected a checkpoint as the teacher, received {str(teacher.path)!r} of format "
            f"{teacher.format}."
        )
    names = [artifact.config.get("id2label") for artifact in (student, teacher)]
    counts = [_labels(artifact.config) for artifact in (student, teacher)]
    hint = "Fine-tune the teacher for the same labels, in the same order."
    if all(names) and names[0] != names[1]:
        raise RecipeError(
            f"Expected a teacher with the student's labels {names[0]}, received {names[1]}.", hint=hint
        )
    if None not in counts and counts[0] != counts[1]:
        raise RecipeError(
            f"Expected a teacher with the student's {counts[0]} labels, received one with {counts[1]}.",
            hint=hint,
        )
    if _vocabulary(student) != _vocabulary(teacher):
        raise RecipeError(
            "Expected a teacher with the student's tokenizer, received one with other tokens.",
            hint="Take a teacher of the same family.",
        )
    expected, its = (reading(artifact.path) for artifact in (student, teacher))
    if expected != its:
        raise RecipeError(
            f"Expected a teacher that reads images as the student does, {expected}, received {its}.",
            hint="Take a teacher that was fine-tuned with the same preprocessor_config.json.",
        )


@cache
def _located(name: str) -> Path:
    return locate(name)


def _labels(config: dict[str, Any]) -> int | None:
    """How many labels a classifier has; transformers leaves out the two that it makes up itself."""
    if not any(name.endswith("Classification") for name in config.get("architectures") or ()):
        return None
    return len(config.get("id2label") or ()) or config.get("num_labels") or 2


def _vocabulary(artifact: Artifact) -> dict[str, int] | None:
    """Token → id, as transformers reads the folder; None for a model that reads no texts."""
    if not tokenization.is_there(artifact.path):
        return None
    content = tokenization.read(artifact.path).tokenizer.encode()
    return open_tokenizer(artifact.path / "tokenizer.json", content).get_vocab(with_added_tokens=False)
