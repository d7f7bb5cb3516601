"""Requests as OpenTelemetry's spans. Imported only where tracing is on."""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server import VERSION
from server.recents import Asked
from server.schemas.requests import RequestEntry
from server.tracing import stages


def exporting_provider(endpoint: str | None, environ: Mapping[str, str]) -> TracerProvider:
    """Sends spans in batches, from a thread of its own; what is left is sent when Python ends.

    Args:
        endpoint: Of the collector; None: as OpenTelemetry's variables say.
        environ: The environment.
    """
    name = environ.get("OTEL_SERVICE_NAME") or "rhapsode"
    resource = Resource.create({"service.name": name, "service.version": VERSION})
    provider = TracerProvider(resource=resource)
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    return provider


class SpanWriter:
    """Writes the spans of requests that have ended.

    Args:
        provider: Where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("rhapsode", VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def write(self, asked: Asked, entry: RequestEntry) -> None:
        """One of the request, within its client's trace if it named one, and one a stage."""
        now_s, now_ns = time.perf_counter(), time.time_ns()

        def ns(at_s: float) -> int:
            return now_ns - round((now_s - at_s) * 1e9)

        carrier = {"traceparent": str(asked.facts.get("traceparent", ""))}
        span = self._tracer.start_span(
            entry.task,
            context=self._propagator.extract(carrier, Context()),
            kind=SpanKind.SERVER,
            attributes=_attributes(asked, entry),
            start_time=ns(asked.context.started_at),
        )
        if entry.status == "failed":
            span.set_status(Status(StatusCode.ERROR, entry.error))
        inside = set_span_in_context(span, Context())
        for stage in stages(asked, entry, now_s):
            part = self._tracer.start_span(stage.name, inside, start_time=ns(stage.began_at))
            part.end(ns(stage.ended_at))
        span.end(now_ns)


def _attributes(asked: Asked, entry: RequestEntry) -> dict[str, str | float]:
    """Figures and names; nothing of what was said."""
    facts: dict[str, str | float | None] = {
        "rhapsode.request_id": entry.id,
        "rhapsode.engine": entry.engine,
        "rhapsode.voice_kind": asked.facts.get("voice_kind"),
        "rhapsode.format": entry.format,
        "rhapsode.outcome": entry.status,
        "rhapsode.ttfa_s": entry.ttfa_s,
        "rhapsode.rtf": entry.rtf,
        "rhapsode.audio_s": entry.audio_s,
        "rhapsode.underrun_s": entry.underrun_s,
        "error.type": entry.error,
    }
    return {name: value for name, value in facts.items() if value is not None}
