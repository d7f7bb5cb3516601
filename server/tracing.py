"""Traces of requests, for who asks for them: one span a request, and one a stage.

They are made when a request has ended, of times that are kept anyway: nothing is done for them
while it runs. What needs OpenTelemetry is in `server.spans`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from msgspec import Struct

from server.recents import Asked, Trace
from server.schemas.requests import RequestEntry
from server.settings import Settings, SettingsError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Stage(Struct, frozen=True):
    """A stretch of a request. Times: time.perf_counter() seconds."""

    name: str
    began_at: float
    ended_at: float


def open_tracing(settings: Settings, environ: Mapping[str, str]) -> Trace | None:
    """What makes and sends spans; None: tracing is off, and nothing of it is imported.

    Raises:
        SettingsError: there is nowhere to send them, or the packages are not installed.
    """
    if not settings.tracing_endpoint:
        if not settings.tracing:
            return None
        if not any(environ.get(name) for name in _ENDPOINTS):
            message = f"bad setting: tracing: set tracing_endpoint, or {_ENDPOINTS[0]}"
            raise SettingsError(message)
    if not _is_installed():
        raise SettingsError("tracing is not installed here: pip install 'rhapsode[otel]'")
    from server.spans import SpanWriter, exporting_provider

    return SpanWriter(exporting_provider(settings.tracing_endpoint, environ)).write


def stages(asked: Asked, entry: RequestEntry, ended_at: float) -> Iterator[Stage]:
    """Those that a request came to, in their order; the last one ends with it."""
    context = asked.context
    turn_at = context.marks.get("turn")
    if entry.task == "transcription":
        yield Stage("upload", context.started_at, asked.began_at)
    yield Stage("queue", asked.began_at, ended_at if turn_at is None else turn_at)
    if turn_at is None:
        return
    if entry.task == "transcription":
        yield Stage("transcribe", turn_at, ended_at)
        return
    first_at = None if entry.ttfa_s is None else context.started_at + entry.ttfa_s
    yield Stage("first_audio", turn_at, ended_at if first_at is None else first_at)
    if first_at is not None:
        yield Stage("stream", first_at, ended_at)


def _is_installed() -> bool:
    return all(
        find_spec(name) is not None
        for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    )
