"""The process in which training runs: torch's memory goes back when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.tasks.base import Columns
from optkit.training.finetune import FinetuneSettings, finetune


class TrainingWorker:
    """Calls arrive through `optkit.core.process.Child`; `emit` sends progress back."""

    emit: Callable[..., None]

    def finetune(
        self,
        model: str,
        data: str,
        out: str,
        settings: dict[str, Any],
        columns: dict[str, Any],
        force: bool,
        task: str | None = None,
    ) -> dict[str, Any]:
        """Train, and give the notes of the step: score, metric, history. Each epoch's score is an event."""
        made = finetune(
            model,
            data,
            out,
            FinetuneSettings(**settings),
            Columns(**columns),
            force,
            lambda text, fraction: self.emit(text=text, fraction=fraction),
            task,
            lambda epoch, score: self.emit(epoch=epoch, score=score),
            lambda text: self.emit(event="note", text=text),
        )
        return made.lineage[-1]["notes"]


def serve() -> TrainingWorker:
    return TrainingWorker()
