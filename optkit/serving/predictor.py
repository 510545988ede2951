"""`load`: an artifact as a predictor, text in and typed answers out, with no torch in the process.

Source of the speed: batches hold texts of similar length, so that little work is spent on padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optkit.artifact import Artifact
from optkit.errors import DataError
from optkit.session import Session, open_session
from optkit.task import Task, open_task

MAX_TOKENS = 4096


class Predictor:
    """A loaded artifact. Thread-safe where its runtime is (ONNX Runtime is); a context manager."""

    def __init__(self, artifact: Artifact, task: Task, session: Session) -> None:
        self.artifact = artifact
        self.task = task
        self._session = session

    def predict(self, inputs: Sequence[Any], batch_size: int = 32, **options: Any) -> list[Any]:
        """One answer per input, in the order given.

        `inputs` is a list of texts, or of pairs of texts, as the task takes them; a batch has at
        most `batch_size` of them. `options` are fields of `optkit.generation.Generation`, for models that
        generate. Raises DataError for anything else.

        >>> load("models/sst2-int8").predict(["a fine film"])  # doctest: +SKIP
        [Classification(label='positive', score=0.99, scores={...})]
        """
        if isinstance(inputs, str):
            raise DataError("Expected a list of texts, received one string.", hint="Write predict([text]).")
        if not inputs:
            return []
        return self.task.respond(self._session, inputs, batch_size, MAX_TOKENS, **options)

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """What a causal language model writes after `prompt`, piece by piece as it comes.

        `options` as for `predict`. Raises RecipeError for a task that does not generate.

        >>> print(*load("models/lm-int8").stream("Once upon"), sep="")  # doctest: +SKIP
        """
        return self.task.stream(self._session, prompt, **options)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: str | Path, runtime: str | None = None, verify: bool = True, **options: Any) -> Predictor:
    """The artifact at `path`, ready to answer.

    `verify` compares every file with the manifest's sha256 first. `options` go to the runtime
    (`threads=2`). Raises CheckpointError for a damaged folder, MissingDependency for a runtime
    that is not installed.
    """
    artifact = Artifact.open(path)
    if verify:
        artifact.verify()
    return Predictor(artifact, open_task(artifact), open_session(artifact, runtime, **options))
