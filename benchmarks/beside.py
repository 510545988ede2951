"""What benchmarks of tasks share: rows of a report as JSON, and a library beside an artifact, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking.statistics import ratio_interval
from optkit.core.process import Child


def row_of(row: Any) -> dict[str, Any]:
    """A `Row` of a report: verdict, score, its paired drop, size, milliseconds and speedup per shape."""
    return {
        "precision": row.precision,
        "verdict": row.verdict,
        "score": row.score,
        "drop": None if row.drop is None else asdict(row.drop),
        "agreement": row.agreement,
        "size_bytes": row.size_bytes,
        "p50_ms": {f"{x.batch}x{x.tokens}": x.p50_ms for x in row.latency},
        "speedup": {f"{x.batch}x{x.tokens}": x.speedup and asdict(x.speedup) for x in row.latency},
    }


def beside(
    module: str, task: str, checkpoint: Path, artifact: Path, inputs: Sequence[Any], rounds: int, threads: int
) -> dict[str, Any]:
    """Milliseconds from input to answer of both, one input at a time, and how many times as long the library
    takes.

    Each has a process of its own, which stands still while the other answers. `module` has a function
    `library(folder, task)` that gives what answers one input by the library.
    """
    theirs, ours = list[list[float]](), list[list[float]]()
    with Child("benchmarks.beside", threads) as library, Child("benchmarks.beside", threads) as served:
        library.call("load", folder=str(checkpoint), threads=threads, module=module, task=task)
        served.call("load", folder=str(artifact), threads=threads)
        served.pause()
        library.pause()
        for number in range(rounds + 1):
            for child, times in ((library, theirs), (served, ours)):
                child.resume()
                taken = child.call("answer", inputs=list(inputs))
                child.pause()
                if number:  # the first is warm-up
                    times.append(taken)
    return {
        "library_ms": float(np.median(theirs)),
        "artifact_ms": float(np.median(ours)),
        "ratio": asdict(ratio_interval([theirs], [ours], centre="total")),
        "rounds": rounds,
        "inputs": len(inputs),
        "threads": threads,
    }


class Answerer:
    """The process that answers, by the function `library` of `module` or by optkit."""

    def load(self, folder: str, threads: int, module: str = "", task: str = "") -> None:
        self._one: Callable[[Any], Any]
        if not module:
            import optkit

            self._one = optkit.load(folder, threads=threads).predict_one
            return
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._one = import_module(module).library(folder, task)

    def answer(self, inputs: list[Any]) -> list[float]:
        """Milliseconds of each."""
        taken = []
        for item in inputs:
            begun = time.perf_counter()
            self._one(item)
            taken.append((time.perf_counter() - begun) * 1000)
        return taken


def serve() -> Answerer:
    return Answerer()
