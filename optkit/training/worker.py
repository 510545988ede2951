"""The process in which training runs: torch's memory goes back when it ends."""

from __future__ import annotations

from typing import Any

from optkit.events import Events
from optkit.tasks.base import Columns
from optkit.training.finetune import FinetuneSettings, finetune


class TrainingWorker:
    """Calls arrive through `optkit.core.process.Child`; `emit` sends progress back."""

    emit: Events

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
        """Train, and give the notes of the step: score, metric, history. Events say how far it is."""
        checkpoint = finetune(
            model,
            data,
            out,
            FinetuneSettings(**settings),
            Columns(**columns),
            force,
            self.emit,
            task,
        )
        return checkpoint.lineage[-1]["notes"]


def serve() -> TrainingWorker:
    return TrainingWorker()
