"""GET /v1/requests and the ledger behind it."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from engine.errors import WorkerDied
from server.app import create_app
from server.catalog import Engines
from server.context import RequestContext
from server.errors import ClientGone
from server.recents import Asked, Ledger
from server.schemas.requests import RequestFigures
from server.settings import Settings
from server.tests.fakes import FakeEngine, FakeListener

Client = TestClient[Any]
SPEECH = "/v1/audio/speech"
HELLO: dict[str, object] = {"model": "tts-1", "voice": "low", "input": "one two three"}
FIGURES = RequestFigures(ttfa_s=0.1, audio_s=1.0, rtf=0.2, underrun_s=0.0, wall_s=0.3)


def app_client(settings: Settings) -> Client:
    engines = Engines({"espeak-ng": FakeEngine()}, {"pocketsphinx": FakeListener()})
    return TestClient(create_app(settings, engines))


@pytest.fixture
def client() -> Iterator[Client]:
    with app_client(Settings()) as client:
        yield client


def asked(owner: str | None = None, request_id: str = "req_1", voice: str = "low") -> Asked:
    context = RequestContext(request_id, time.perf_counter())
    return Asked(
        context=context,
        task="speech",
        owner=owner,
        model="tts-1",
        engine="fake",
        voice=voice,
        format="pcm",
    )


def book(ledger: Ledger, request: Asked, error: BaseException | None = None) -> None:
    ledger.began(request)
    ledger.ended(request, error, FIGURES, {})


def entries(client: Client, **headers: str) -> list[dict[str, Any]]:
    body = client.get("/v1/requests", headers=headers).json()
    assert body["object"] == "list"
    listed: list[dict[str, Any]] = body["data"]
    return listed


def test_speech_that_is_done_tells_what_it_cost(client: Client) -> None:
    before = int(time.time())
    answer = client.post(SPEECH, json={**HELLO, "response_format": "pcm"})
    (entry,) = entries(client)
    assert before - 1 <= entry.pop("created_at") <= time.time()
    assert 0 < entry.pop("ttfa_s") <= entry.pop("wall_s")
    assert entry.pop("underrun_s") >= 0
    assert entry == {
        "id": answer.headers["x-request-id"],
        "object": "request",
        "task": "speech",
        "model": "tts-1",
        "engine": "espeak-ng",
        "voice": "low",
        "format": "pcm",
        "status": "done",
        "error": None,
        "audio_s": 0.3,
        "rtf": 0.01,
    }


def test_text_is_never_kept(client: Client) -> None:
    client.post(SPEECH, json={**HELLO, "input": "secret words"})
    assert entries(client)
    assert "secret" not in client.get("/v1/requests").text


def test_failure_is_kept_with_its_code(client: Client) -> None:
    client.post(SPEECH, json={**HELLO, "input": "break"})
    client.post(SPEECH, json={**HELLO, "voice": "nobody"})
    unknown, broken = entries(client)
    assert (unknown["status"], unknown["error"]) == ("failed", "voice_not_found")
    assert (broken["status"], broken["error"], broken["ttfa_s"]) == (
        "failed",
        "engine_failed",
        None,
    )
    metrics = client.get("/metrics").text
    assert 'outcome="failed",code="engine_failed",status="5xx"} 1' in metrics
    assert 'rhapsode_requests_in_flight{task="speech"} 0' in metrics


def test_transcription_is_a_request_too(client: Client) -> None:
    speech = {**HELLO, "input": "word " * 20, "response_format": "wav", "stream": False}
    recording = client.post(SPEECH, json=speech).content
    client.post(
        "/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": recording}
    ).raise_for_status()
    entry, _ = entries(client)
    assert (entry["task"], entry["status"], entry["voice"]) == ("transcription", "done", None)
    assert (entry["model"], entry["format"], entry["audio_s"]) == ("whisper-1", "json", 2.0)
    assert (entry["ttfa_s"], entry["underrun_s"]) == (None, None)
    assert entry["rtf"] > 0


def test_each_key_sees_its_own_requests_only() -> None:
    with app_client(Settings(api_keys=("one", "two"))) as client:
        right = {key: f"Bearer {key}" for key in ("one", "two")}
        made = client.post(SPEECH, json=HELLO, headers={"authorization": right["one"]})
        assert client.get("/v1/requests").status_code == 401
        assert entries(client, authorization=right["two"]) == []
        (entry,) = entries(client, authorization=right["one"])
        assert entry["id"] == made.headers["x-request-id"]


@pytest.mark.parametrize("error", [ClientGone(), asyncio.CancelledError()])
def test_client_that_left_is_no_failure(error: BaseException) -> None:
    ledger = Ledger()
    book(ledger, asked(), error)
    (entry,) = ledger.recent(None)
    assert (entry.status, entry.error) == ("left", None)


def test_newest_are_first_and_the_oldest_are_forgotten() -> None:
    ledger = Ledger()
    for number in range(101):
        book(ledger, asked(request_id=f"req_{number}"))
    ids = [entry.id for entry in ledger.recent(None)]
    assert ids == [f"req_{number}" for number in range(100, 0, -1)]


def test_worker_that_died_is_a_failure_with_a_code() -> None:
    ledger = Ledger()
    book(ledger, asked(), WorkerDied("it died"))
    (entry,) = ledger.recent(None)
    assert (entry.status, entry.error) == ("failed", "engine_died")


def test_name_of_a_voice_is_kept_only_so_far() -> None:
    ledger = Ledger()
    book(ledger, asked(voice="x" * 1000))
    assert ledger.recent(None)[0].voice == "x" * 200
