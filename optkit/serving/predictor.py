"""`load`: an artifact as a predictor, text in and typed answers out, with no torch in the process.

Source of the speed: batches hold texts of similar length, so that little work is spent on padding.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

from optkit.benchmarking.stored_answers import open_checked
from optkit.core.artifact import Artifact, changed, state
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, OptkitError
from optkit.models.adapter import merged_or_whole
from optkit.models.signing import open_signed
from optkit.runtimes.base import Session, Setting, infer_all
from optkit.tasks.base import Task, open_task
from optkit.tasks.labelled import Answer, Input

#: Limits of one batch unless others are given: examples, and examples x longest one.
BATCH_SIZE, MAX_TOKENS = 32, 4096
#: How many inputs of a stream are read ahead, to find neighbours in length.
AHEAD = 1024


class Predictor:
    """A loaded artifact: `predict` for a list, `predict_one`, `stream` for what does not fit in memory.

    Threads may share it. A context manager; `close` waits for the calls that are under way, and any
    later call raises OptkitError.
    """

    def __init__(self, artifact: Artifact, task: Task, session: Session) -> None:
        self.artifact = artifact
        self.task = task
        self._session = session
        self._one_at_a_time = nullcontext() if session.thread_safe else threading.Lock()
        self._idle = threading.Condition()
        self._calls, self._closed = 0, False

    def predict(
        self,
        inputs: Sequence[Input],
        batch_size: int = BATCH_SIZE,
        max_tokens: int = MAX_TOKENS,
        **options: Setting,
    ) -> list[Answer]:
        """One answer per input, in the order given.

        `inputs` is a list of texts, or of whatever else the task takes: pairs, lists of words, images. A
        batch has at most `batch_size` examples and, padding counted, `max_tokens` tokens (one example
        always fits). `options` are fields of `optkit.runtimes.generation.Generation`, for models that
        generate text, or of `optkit.tasks.vectors.VectorOptions`, for those that give vectors. Raises
        DataError for inputs that the task does not take.

        >>> load("models/sst2-int8").predict(["a fine film"])
        [Classification(label='positive', score=..., scores={...})]
        """
        if isinstance(inputs, (str, bytes)):
            raise DataError(
                "Expected a list of texts, received one string.", hint="Write predict([text]) or predict_one."
            )
        if not self.task.generates:
            given = self.task.prepared(inputs, options)
            answers = self.answer(self.encode(given), batch_size, max_tokens) if len(inputs) else []
            return self.task.finished(answers, options)
        with self._call(), self._one_at_a_time:
            return self.task.complete(self._session, inputs, batch_size, **options)

    def generate(self, prompt: str, **options: Setting) -> Generator[str, None, Answer]:
        """What a causal language model writes after `prompt`, piece by piece as it comes.

        The generator returns what `predict_one` would: the text, and how it ended. `options` as for
        `predict`. Raises RecipeError for a task that generates no text.

        >>> pieces = list(load("models/lm-int8").generate("Once upon"))
        """
        with self._call(), self._one_at_a_time:
            return (yield from self.task.generate(self._session, prompt, **options))

    def predict_one(self, item: Input, **options: Setting) -> Answer:
        """The answer to one input; `options` as for `predict`.

        >>> load("models/sst2-int8").predict_one("a fine film").label
        'positive'
        """
        return self.predict([item], **options)[0]

    def stream(
        self,
        inputs: Iterable[Input],
        batch_size: int = BATCH_SIZE,
        max_tokens: int = MAX_TOKENS,
        ahead: int = AHEAD,
    ) -> Iterator[Answer]:
        """The answers to endless inputs, in order, at constant memory.

        `ahead` inputs are read before the first answer comes. Raises as `predict` does.

        >>> for answer in load("models/sst2-int8").stream(["a fine film", "dull"]):
        ...     print(answer.label)
        positive
        negative
        """
        if isinstance(inputs, (str, bytes)):
            raise DataError("Expected an iterable of inputs, received one string.", hint="Use predict_one.")
        source = iter(inputs)
        while chunk := list(islice(source, ahead)):
            yield from self.predict(chunk, batch_size, max_tokens)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """The first half of `predict`: tokens, whose number is known before they are answered."""
        return self.task.encode(inputs)

    def answer(
        self, encoded: EncodedSet, batch_size: int = BATCH_SIZE, max_tokens: int = MAX_TOKENS
    ) -> list[Answer]:
        """The second half of `predict`: one answer per input that was encoded."""
        with self._call(), self._one_at_a_time:
            outputs = infer_all(self._session, encoded, batch_size, max_tokens)
        return self.task.decode(outputs)

    def close(self) -> None:
        """Free the model, once no call is under way any more. Calling it twice is fine."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: self._calls == 0)
            self._session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _call(self) -> Iterator[None]:
        with self._idle:
            if self._closed:
                raise OptkitError("This predictor is closed.", hint="Load the artifact again.")
            self._calls += 1
        try:
            yield
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()


def load(
    path: str | Path,
    runtime: str | None = None,
    verify: bool = True,
    verify_key: str | Path | None = None,
    **options: Setting,
) -> Predictor:
    """The artifact at `path`, ready to answer.

    Runs in `runtime` (default: the manifest's, with the settings stored there); `options` override
    those (`threads=2`). `verify` compares every file with the manifest's sha256 first; `verify_key` is a
    public key, whose owner has to have signed the folder (`optkit.models.signing`). Raises CheckpointError
    for a damaged folder, one that changes meanwhile, and a model that answers otherwise than on the machine
    where it was proven (`optkit.benchmarking.stored_answers`); MissingDependency for a runtime that is not
    installed.
    """
    path = merged_or_whole(path, verify_key)
    before = state(path)
    artifact = open_signed(path, verify_key)
    if verify:
        artifact.verify()
    task = open_task(artifact)
    session, _ = open_checked(artifact, task, runtime, **options)
    predictor = Predictor(artifact, task, session)
    if state(path) != before:  # or what was verified is not what was read
        predictor.close()
        raise changed(path)
    return predictor
