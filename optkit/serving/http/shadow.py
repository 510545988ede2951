"""`Shadow`: another artifact answers the same requests in the background; agreement and time become metrics.

Nobody waits for it: it runs at the lowest priority, and what it cannot keep up with is counted and dropped.
Its runtime is the one that it has stored, which may differ from the model's.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from optkit.errors import RecipeError
from optkit.serving.http.logs import log
from optkit.serving.http.metrics import ModelMetrics
from optkit.serving.http.model_slot import open_predictor
from optkit.serving.http.settings import ServeSettings
from optkit.serving.predictor import Predictor
from optkit.tasks.base import Task
from optkit.tasks.labelled import Answer, Input

#: Requests that may wait for the shadow.
LAG = 256


def open_shadow(settings: ServeSettings, task: str) -> Predictor:
    """What answers beside a model for `task`. Raises as `load` does, and RecipeError for another task."""
    predictor = open_predictor(Path(settings.shadow or ""), replace(settings, runtime=None), threads=1)
    if predictor.task.name == task:
        return predictor
    predictor.close()
    raise RecipeError(
        f"Expected a shadow for {task}, received {settings.shadow!r}, which is for {predictor.task.name}.",
        hint="A shadow answers the requests of the model beside it.",
    )


class Shadow:
    def __init__(self, predictor: Predictor, metrics: ModelMetrics) -> None:
        self._predictor, self._metrics = predictor, metrics
        self._waiting: queue.Queue[tuple[Sequence[Input], Sequence[Answer], dict[str, Any]] | None] = (
            queue.Queue(LAG)
        )
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def compare(self, inputs: Sequence[Input], answers: Sequence[Answer], options: dict[str, Any]) -> None:
        """Returns at once."""
        try:
            self._waiting.put_nowait((inputs, answers, options))
        except queue.Full:
            self._metrics.shadow_dropped(len(inputs))

    def close(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._thread.join()
        self._predictor.close()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # of this thread alone, where the system can
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while (task := self._waiting.get()) is not None:
            inputs, answers, options = task
            begun = time.monotonic()
            try:
                others = self._predictor.predict(inputs, **options)
                alike = sum(_alike(self._predictor.task, *pair) for pair in zip(answers, others, strict=True))
            except Exception as error:
                log("error", "shadow failed", error=type(error).__name__)
                self._metrics.shadow_dropped(len(inputs))
                continue
            self._metrics.shadowed(len(inputs), alike, time.monotonic() - begun)


def _alike(task: Task, answer: Answer, other: Answer) -> float:
    """`task.alike`, and 0 where an answer holds NaN or infinity: its label says nothing then."""
    for part in (*task.fields(answer), *task.fields(other)):
        if isinstance(part, (float, np.floating, list, np.ndarray)) and not np.isfinite(part).all():
            return 0.0
    return task.alike(answer, other)
