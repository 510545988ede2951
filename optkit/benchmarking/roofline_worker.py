"""The process that measures the peaks and counts the work of models, one question per process.

Each alone: two libraries' idle threads spoil each other's times, and a model's memory goes back.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from optkit.benchmarking import flops, roofline
from optkit.core.artifact import Artifact
from optkit.events import Events


class RooflineWorker:
    """Calls arrive through `optkit.core.process.Child`."""

    emit: Events

    def probe(self, threads: int) -> dict[str, float]:
        return roofline.probe(threads).to_dict()

    def probe_gpu(self) -> dict[str, float]:
        import torch

        from optkit.benchmarking.gpu_peaks import measure_peaks

        return measure_peaks(torch).to_dict()

    def probe_bf16(self, threads: int) -> float:
        return roofline.probe_bf16(threads)

    def count(
        self, artifact: str, shapes: list[tuple[int, int]], task: str | None = None
    ) -> list[dict[str, Any]] | None:
        """`optkit.benchmarking.flops.of`, as JSON."""
        work = flops.of(Artifact.open(artifact), [(batch, tokens) for batch, tokens in shapes], task)
        return None if work is None else [asdict(x) for x in work]


def serve() -> RooflineWorker:
    return RooflineWorker()
