"""OpenTelemetry traces, where its API is installed; nothing otherwise. No text becomes an attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from optkit.core.reading import Json


class Tracing:
    """`span` continues the trace that the request's headers name (W3C `traceparent`)."""

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError:
            self._tracer: trace.Tracer | None = None
            return
        self._extract, self._server = propagate.extract, trace.SpanKind.SERVER
        self._current = trace.get_current_span
        self._tracer = trace.get_tracer("optkit")

    def note(self, **attributes: Json) -> None:
        """Attributes for the span that is open here, if one is."""
        if self._tracer is not None:
            self._current().set_attributes({f"optkit.{key}": value for key, value in attributes.items()})

    @contextmanager
    def span(self, name: str, headers: Mapping[bytes, bytes]) -> Iterator[None]:
        if self._tracer is None:
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            context=self._extract({k.decode("latin-1"): v.decode("latin-1") for k, v in headers.items()}),
            kind=self._server,
            record_exception=False,  # a message may quote what the user sent
        ):
            yield


TRACING = Tracing()
