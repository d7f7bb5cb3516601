"""Spans of requests, read back from the SDK's own memory."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from litestar.testing import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from server import app as app_module
from server.app import create_app
from server.catalog import Engines
from server.settings import Settings, SettingsError
from server.spans import SpanWriter
from server.tests.fakes import FakeEngine, FakeListener
from server.tracing import open_tracing

SPEECH = "/v1/audio/speech"
HELLO: dict[str, object] = {"model": "tts-1", "voice": "low", "input": "one two three"}
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced(NamedTuple):
    client: TestClient[Any]
    exporter: InMemorySpanExporter

    def spans(self) -> dict[str, ReadableSpan]:
        """By name, in the order in which they began; that of the request is the first."""
        ended = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return {span.name: span for span in ended}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(app_module, "open_tracing", lambda *_: SpanWriter(provider).write)
    engines = Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    with TestClient(create_app(Settings(), engines)) as client:
        yield Traced(client, exporter)


def edges(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_speech_is_one_span_and_one_a_stage(traced: Traced) -> None:
    answer = traced.client.post(SPEECH, json={**HELLO, "input": "word " * 50})
    spans = traced.spans()
    assert list(spans) == ["speech", "queue", "first_audio", "stream"]
    assert len(traced.exporter.get_finished_spans()) == 4
    whole, *parts = spans.values()
    attributes = dict(whole.attributes or {})
    assert 0 < float(str(attributes.pop("rhapsode.ttfa_s"))) < 10
    assert float(str(attributes.pop("rhapsode.underrun_s"))) >= 0
    assert attributes == {
        "rhapsode.request_id": answer.headers["x-request-id"],
        "rhapsode.engine": "espeak-ng",
        "rhapsode.voice_kind": "own",
        "rhapsode.format": "mp3",
        "rhapsode.outcome": "done",
        "rhapsode.rtf": 0.01,
        "rhapsode.audio_s": 5.0,
    }
    assert (whole.kind, whole.parent, whole.status.status_code) == (
        SpanKind.SERVER,
        None,
        StatusCode.UNSET,
    )
    assert all(part.parent == whole.context for part in parts)


def test_stages_follow_each_other_within_the_request(traced: Traced) -> None:
    traced.client.post(SPEECH, json=HELLO)
    whole, *parts = map(edges, traced.spans().values())
    assert whole[0] <= parts[0][0]
    # A figure is rounded to a tenth of a millisecond.
    for before, after in pairwise(parts):
        assert before[0] <= before[1]
        assert abs(before[1] - after[0]) <= 100_000
    assert parts[-1][1] == whole[1]


def test_transcription_has_its_upload_and_its_work(traced: Traced) -> None:
    speech = {**HELLO, "input": "word " * 20, "response_format": "wav"}
    recording = traced.client.post(SPEECH, json=speech).content
    traced.exporter.clear()
    traced.client.post(
        "/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": recording}
    ).raise_for_status()
    spans = traced.spans()
    assert set(spans) == {"transcription", "upload", "queue", "transcribe"}
    assert edges(spans["upload"])[0] == edges(spans["transcription"])[0]
    assert edges(spans["transcribe"])[1] == edges(spans["transcription"])[1]


@pytest.mark.parametrize(("flags", "count"), [("01", 4), ("00", 0)], ids=["sampled", "not sampled"])
def test_trace_of_the_client_goes_on(traced: Traced, flags: str, count: int) -> None:
    parent = f"00-{TRACE_ID}-{PARENT_ID}-{flags}"
    traced.client.post(SPEECH, json=HELLO, headers={"traceparent": parent})
    ended = traced.exporter.get_finished_spans()
    assert len(ended) == count
    assert {span.context.trace_id for span in ended if span.context} <= {int(TRACE_ID, 16)}
    roots = [span for span in ended if span.kind == SpanKind.SERVER]
    assert all(span.parent and span.parent.span_id == int(PARENT_ID, 16) for span in roots)


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-{PARENT_ID}-01", "x" * 9999])
def test_trace_that_is_none_begins_one(traced: Traced, parent: str) -> None:
    traced.client.post(SPEECH, json=HELLO, headers={"traceparent": parent}).raise_for_status()
    assert traced.spans()["speech"].parent is None


def test_failure_is_an_error_with_its_code(traced: Traced) -> None:
    traced.client.post(SPEECH, json={**HELLO, "input": "break"})
    span = traced.spans()["speech"]
    assert span.status.status_code == StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "engine_failed"
    assert list(traced.spans()) == ["speech", "queue", "first_audio"]


def test_text_is_in_no_span(traced: Traced) -> None:
    traced.client.post(SPEECH, json={**HELLO, "input": "secret words"})
    traced.client.post(SPEECH, json={**HELLO, "input": "secret break"})
    ended = traced.exporter.get_finished_spans()
    assert len(ended) == 8
    assert not any("secret" in span.to_json() for span in ended)


def test_tracing_is_off_and_not_imported_unless_it_is_asked_for() -> None:
    program = (
        "import sys; from server.app import create_app; from server.catalog import Engines\n"
        "from server.settings import Settings; from server.tests.fakes import FakeEngine\n"
        "create_app(Settings(), Engines({'espeak-ng': FakeEngine()}))\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
        "assert 'server.spans' not in sys.modules"
    )
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", program], check=True)
    assert open_tracing(Settings(), environ) is None


def test_tracing_without_a_place_for_it_does_not_start() -> None:
    with pytest.raises(SettingsError, match="tracing_endpoint"):
        open_tracing(Settings(tracing=True), {})


def test_tracing_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(SettingsError, match=r"rhapsode\[otel\]"):
        open_tracing(Settings(tracing_endpoint="http://127.0.0.1:9"), {})
