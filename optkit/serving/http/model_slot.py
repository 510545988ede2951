"""`Served`: a model under a name. Its current version answers; a new one takes over between two requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.artifact import Artifact
from optkit.errors import DataError, RecipeError, did_you_mean
from optkit.runtimes.base import Setting
from optkit.runtimes.settings import chosen_runtime, runtime_settings
from optkit.serving.http.batch_queue import BatchQueue, Job, Late, QueueFull
from optkit.serving.http.batcher import Batcher
from optkit.serving.http.metrics import ModelMetrics
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.streaming import Writing
from optkit.serving.http.tracing import TRACING
from optkit.serving.predictor import Predictor, load
from optkit.tasks.labelled import Answer, Input

if TYPE_CHECKING:
    from optkit.tasks.base import Task


@dataclass(frozen=True)
class Version:
    """A loaded artifact with its line; `name` is short and the same for the same files."""

    name: str
    predictor: Predictor
    line: BatchQueue
    batcher: Batcher

    def same_as(self, other: Version) -> bool:
        """Whether it would answer as `other` does: the same files in the same runtime with its settings."""
        ours, others = (x.predictor.artifact.manifest.get("runtime") for x in (self, other))
        return self.name == other.name and ours == others

    def close(self) -> None:
        """Answer what waits, then free the model."""
        self.batcher.close()
        self.predictor.close()


class Served:
    """`answer` and `swap` are called on the event loop, so that no request falls between two versions."""

    def __init__(
        self,
        name: str,
        path: str,
        settings: ServeSettings,
        metrics: ModelMetrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.name, self.path = name, Path(path)
        self._settings, self._metrics, self._loop = settings, metrics, loop
        self.current = self.open()
        self._turns, self._writers = asyncio.Semaphore(settings.streams), 0
        self.on_answer: Callable[[Sequence[Input], Sequence[Answer], dict[str, Any]], None] | None = None

    @property
    def task(self) -> Task:
        return self.current.predictor.task

    @property
    def full(self) -> bool:
        """Whether no request would find room to wait."""
        return self.current.line.full(self._settings.timeout_s)

    def turn_away(self) -> int:
        """Count a request that found no room; when to come back, in seconds."""
        self._metrics.failed("full")
        return self.current.line.retry_after_s()

    def open(self) -> Version:
        """Load what lies in the folder now. Raises OptkitError."""
        s = self._settings
        predictor = open_predictor(self.path, s)
        longest = getattr(getattr(predictor.task, "encoder", None), "max_length", 512)
        delay_s = s.max_delay_ms / 1000
        line = BatchQueue(
            s.queue, s.max_batch, s.max_tokens, delay_s, longest, tell=self._metrics.queued, streams=s.streams
        )
        batcher = Batcher(predictor, line, s.streams, self._deliver, self._metrics)
        return Version(predictor.artifact.fingerprint()[:12], predictor, line, batcher)

    async def answer(
        self, inputs: Sequence[Input], timeout_s: float, options: dict[str, Any] | None = None
    ) -> tuple[list[Answer], str]:
        """The answers, and the version that gave them; `options` as for `Predictor.predict`.

        Raises QueueFull, Late, DataError.
        """
        version, options, given = self.current, options or {}, inputs
        each = [self.task.pieces(item) for item in given]
        inputs = [piece for pieces in each for piece in pieces]
        if len(inputs) > max(len(given), self._settings.max_inputs):
            raise DataError(
                f"Expected at most {self._settings.max_inputs:,} {self.task.parts['pair']} in a request, "
                f"received {len(inputs):,}.",
                hint="Ask in several requests; optkit serve --max-inputs and --queue allow more.",
            )
        drawn = bool(options.get("temperature"))  # the same seed draws the same text at the same place
        deadline = time.monotonic() + timeout_s
        job = Job(inputs, deadline, options, alone=drawn, future=self._loop.create_future())
        timer = self._loop.call_later(timeout_s, _expire, job)
        try:
            version.line.put(job)  # last, as the thread that this wakes needs the interpreter to itself
            await job.future
        except Exception as error:
            self._metrics.failed(_reason(error))
            raise
        finally:
            timer.cancel()
            job.abandoned = True
        TRACING.note(
            model=self.name,
            version=version.name,
            inputs=len(inputs),
            queue_ms=1000 * (job.begun - job.arrived),
        )
        self._metrics.answered(time.monotonic() - job.arrived, job.begun - job.arrived)
        if self.on_answer:
            self.on_answer(inputs, job.answers, options)
        if len(inputs) == len(given):
            return job.answers, version.name
        answered = iter(job.answers)
        return [self.task.joined([next(answered) for _ in pieces]) for pieces in each], version.name

    async def write(
        self, prompt: Input, timeout_s: float, options: dict[str, Any]
    ) -> AsyncGenerator[Answer, None]:
        """The pieces of a text as a language model writes it, and last its whole answer.

        As many texts as there are streams are written at once, beside the batches; others wait. Raises as
        `answer` does.
        """
        begun = time.monotonic()
        try:
            if self._writers >= self._settings.queue:
                raise QueueFull(1)
            self._writers += 1
            try:
                async with self._turn(timeout_s):
                    turn = time.monotonic()
                    predictor = self.current.predictor
                    writing = Writing(lambda: predictor.generate(prompt, **options), begun + timeout_s)
                    async with aclosing(aiter(writing)) as pieces:
                        async for piece in pieces:
                            yield piece
            finally:
                self._writers -= 1
        except Exception as error:
            self._metrics.failed(_reason(error))
            raise
        self._metrics.answered(time.monotonic() - begun, turn - begun)
        if self.on_answer:
            self.on_answer([prompt], [writing.answer], options)
        yield writing.answer

    @asynccontextmanager
    async def _turn(self, timeout_s: float) -> AsyncIterator[None]:
        """One of the streams; raises Late where none comes free in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            raise Late("The deadline passed before the text could be begun.") from None
        try:
            yield
        finally:
            self._turns.release()

    def swap(self, version: Version) -> None:
        """From now on `version` answers; the old one answers what it accepted, and goes."""
        old, self.current = self.current, version
        threading.Thread(target=old.close, daemon=True).start()

    def close(self) -> None:
        self.current.close()

    def _deliver(self, jobs: list[Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, jobs)
        except RuntimeError:  # the loop is gone, and so are those who waited
            return


def open_predictor(path: Path, settings: ServeSettings, **changes: Setting) -> Predictor:
    """Load a folder for serving: every file is as it was written, and signed where a key is given.

    It answers once here: first answers are slow, and a model that cannot answer shows itself. Of the
    settings' options it takes those that its runtime has; `check_options` refuses those that none has.
    """
    artifact = Artifact.open(path)
    known = runtime_settings(chosen_runtime(artifact, settings.runtime))
    options = {k: v for k, v in {**settings.runtime_options, **changes}.items() if k in known}
    if settings.streams > 1 and (settings.runtime or artifact.format) == "openvino":
        options.setdefault("streams", settings.streams)
        options["threads"] = options.get("threads", 1) * settings.streams  # of all streams together
    predictor = load(path, settings.runtime, verify_key=settings.verify_key, **options)
    try:
        short = {"max_new_tokens": 1} if predictor.task.generates else {}
        predictor.predict(list(predictor.task.samples()), **short)
    except BaseException:
        predictor.close()
        raise
    return predictor


def check_options(settings: ServeSettings) -> None:
    """Raises RecipeError for an option of runtimes that no model's runtime has, nor the shadow's."""
    runtimes = [chosen_runtime(Artifact.open(path), settings.runtime) for path in settings.models.values()]
    if settings.shadow:
        runtimes.append(chosen_runtime(Artifact.open(settings.shadow)))
    known = frozenset().union(*map(runtime_settings, runtimes))
    for option in settings.options:
        if option not in known:
            raise RecipeError(
                f"Expected a setting of {', '.join(sorted(set(runtimes)))} in --option, received {option!r}.",
                hint=did_you_mean(option, known),
            )


def _reason(error: Exception) -> str:
    """What a failure is counted as."""
    kinds = {QueueFull: "full", Late: "late", DataError: "input"}
    return next((name for kind, name in kinds.items() if isinstance(error, kind)), "error")


def _expire(job: Job) -> None:
    job.abandoned = True
    if not job.future.done():
        job.future.set_exception(Late("The deadline passed before the model could answer."))


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(None)
        else:
            job.future.set_exception(job.error)
