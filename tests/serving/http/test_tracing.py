from __future__ import annotations

import pytest

from optkit.serving.http.tracing import Tracing


@pytest.fixture
def spans(monkeypatch):
    export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter, provider = export.InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("optkit.serving.http.tracing.TRACING._tracer", provider.get_tracer("optkit"))
    return exporter


def test_a_request_continues_its_trace_and_tells_no_text(fake, spans):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with fake({}) as client:
        client.post("/v1/models/m:predict", json={"instances": ["a fine film"]}, headers=headers)
    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace
    assert span.attributes["optkit.model"] == "m"
    assert span.attributes["optkit.inputs"] == 1
    assert span.attributes["optkit.queue_ms"] >= 0
    assert "fine film" not in span.to_json()


def test_without_the_library_nothing_happens(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
    tracing = Tracing()
    tracing.note(model="m")
    with tracing.span("x", {}):
        pass
