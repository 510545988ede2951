"""Prometheus metrics, of one process or summed over all workers."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 5.0, 10.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """All of a server's metrics; `of(name)` gives those of a model, ready to be counted on."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        keep: dict[str, Any] = {"registry": self.registry}
        model = ["model"]
        self._responses = Counter("optkit_responses_total", "HTTP responses by status.", ["code"], **keep)
        self.answered = Histogram(
            "optkit_request_seconds", "From a request's body to its answer.", model, buckets=_SECONDS, **keep
        )
        self.waited = Histogram(
            "optkit_queue_seconds", "From a request's body to its batch.", model, buckets=_SECONDS, **keep
        )
        self.batch_seconds = Histogram(
            "optkit_batch_seconds", "Time to answer a batch.", model, buckets=_SECONDS, **keep
        )
        self.batch_inputs = Histogram(
            "optkit_batch_inputs", "Inputs in a batch.", model, buckets=_COUNTS, **keep
        )
        self.failures = Counter(
            "optkit_failures_total", "Requests not answered, by reason.", ["model", "reason"], **keep
        )
        live = {**keep, "multiprocess_mode": "livesum"}
        self.queued = Gauge("optkit_queue_inputs", "Inputs that wait.", model, **live)
        self.swaps = Counter(
            "optkit_swaps_total", "New versions put in place, or refused.", ["model", "outcome"], **keep
        )
        self.shadow_compared = Counter("optkit_shadow_inputs_total", "Inputs compared.", model, **keep)
        self.shadow_agreement = Counter(
            "optkit_shadow_agreement_total",
            "Agreement, summed: divide by the inputs compared.",
            model,
            **keep,
        )
        self.shadow_dropped = Counter(
            "optkit_shadow_dropped_total", "Inputs not compared: the shadow lags.", model, **keep
        )
        self.shadow_seconds = Histogram(
            "optkit_shadow_seconds", "Time of the shadow per request.", model, buckets=_SECONDS, **keep
        )
        self._by_code: dict[int, Any] = {}

    def responded(self, code: int) -> None:
        if code not in self._by_code:
            self._by_code[code] = self._responses.labels(str(code))
        self._by_code[code].inc()

    def of(self, name: str) -> ModelMetrics:
        return ModelMetrics(self, name)

    def exposition(self) -> bytes:
        """The text format; with several workers, of all of them together."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        folder = os.environ.get(_MULTIPROCESS)
        if not folder:
            return generate_latest(self.registry)
        for file in Path(folder).glob("gauge_live*_*.db"):  # a worker that died waits for nothing
            match = re.search(r"_(\d+)\.db$", file.name)
            if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc").exists():
                with suppress(OSError):
                    mark_process_dead(int(match[1]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)


class ModelMetrics:
    """The metrics of one model. Looking a label up costs more than counting, so it is done once."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name
        self._seconds, self._inputs = metrics.batch_seconds.labels(name), metrics.batch_inputs.labels(name)
        self._answered, self._waited = metrics.answered.labels(name), metrics.waited.labels(name)
        self._queued = metrics.queued.labels(name)
        self._failures: dict[str, Any] = {}

    def batch(self, inputs: int, seconds: float) -> None:
        self._inputs.observe(inputs)
        self._seconds.observe(seconds)

    def answered(self, seconds: float, waited: float) -> None:
        self._answered.observe(seconds)
        self._waited.observe(waited)

    def queued(self, inputs: int) -> None:
        self._queued.set(inputs)

    def failed(self, reason: str) -> None:
        if reason not in self._failures:
            self._failures[reason] = self._metrics.failures.labels(self._name, reason)
        self._failures[reason].inc()

    def swapped(self, outcome: str) -> None:
        self._metrics.swaps.labels(self._name, outcome).inc()

    def shadowed(self, inputs: int, agreement: float, seconds: float) -> None:
        self._metrics.shadow_compared.labels(self._name).inc(inputs)
        self._metrics.shadow_agreement.labels(self._name).inc(agreement)
        self._metrics.shadow_seconds.labels(self._name).observe(seconds)

    def shadow_dropped(self, inputs: int) -> None:
        self._metrics.shadow_dropped.labels(self._name).inc(inputs)
