"""`Batcher`: threads that take batches from the waiting line, answer them, and hand results to the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from optkit.serving.http.batch_queue import BatchQueue, Item, Job
from optkit.serving.http.metrics import ModelMetrics
from optkit.serving.predictor import Predictor


class Batcher:
    """`deliver` is called in the threads with the jobs that a batch finished, answered or failed."""

    def __init__(
        self,
        predictor: Predictor,
        line: BatchQueue,
        streams: int,
        deliver: Callable[[list[Job]], None],
        metrics: ModelMetrics,
    ) -> None:
        self._predictor, self._line, self._deliver, self._metrics = predictor, line, deliver, metrics
        self._threads = [
            threading.Thread(target=self._run, name=f"batcher-{i}", daemon=True) for i in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer what waits, then end. The predictor stays open."""
        self._line.close()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (batch := self._line.take()) is not None:
            begun = time.monotonic()
            for item in batch:
                item.job.begun = item.job.begun or begun
            finished = self._answer(batch)
            seconds = time.monotonic() - begun
            self._line.took(len(batch), seconds)
            self._metrics.batch(len(batch), seconds)
            if finished:
                self._deliver(finished)  # last, as the loop that this wakes needs the interpreter to itself

    def _answer(self, batch: Sequence[Item]) -> list[Job]:
        """The jobs that this batch completes. An input that cannot be answered fails its own job only."""
        try:
            answers = self._predictor.predict(
                [item.input for item in batch],
                self._line.max_batch,
                self._line.max_tokens,
                **batch[0].job.options,
            )
        except Exception as error:
            if len({id(item.job) for item in batch}) > 1:
                return [job for item in batch for job in self._answer([item])]
            first = batch[0].job.error is None
            batch[0].job.error = batch[0].job.error or error
            return [batch[0].job] if first else []
        finished = []
        for item, answer in zip(batch, answers):
            job = item.job
            job.answers[item.place] = answer
            with _COUNTING:  # inputs of one job may be answered by several threads
                job.left -= 1
                done = job.left == 0
            if done and job.error is None:
                finished.append(job)
        return finished


_COUNTING = threading.Lock()
