"""The process in which training runs: torch's memory goes back when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optkit.training.finetune import FinetuneSettings, finetune


class TrainingWorker:
    """Calls arrive through `optkit.process.Child`; `emit` sends progress back."""

    emit: Callable[..., None]

    def finetune(self, model: str, data: str, out: str, settings: dict[str, Any]) -> None:
        finetune(
            model,
            data,
            out,
            FinetuneSettings(**settings),
            force=True,
            progress=lambda text, fraction: self.emit(text=text, fraction=fraction),
        )


def serve() -> TrainingWorker:
    return TrainingWorker()
