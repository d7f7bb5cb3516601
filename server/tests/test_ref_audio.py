"""Speech in a voice that comes with the request."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from engine.config import PoolConfig
from server.app import create_app, create_pools
from server.audio.decode import DecodeLimits, decode_clip
from server.audio.encoder import encode_whole
from server.catalog import Engines
from server.settings import EngineSettings, Limits, QueueSettings, Settings, VoiceSettings
from server.tests.fake_voices import TEXT, BusyListener, Listener, StylishEngine, recording
from server.tests.fakes import FakeEngine, FakeListener
from voices.prompt_check import check_prompt

Client = TestClient[Any]
SPEECH = "/v1/audio/speech"
VOICES = "/v1/audio/voices"
HELLO: dict[str, object] = {"model": "tts-1", "input": "one two", "response_format": "pcm"}


def app_client(
    engine: FakeEngine, listener: FakeListener | None = None, settings: Settings | None = None
) -> Client:
    ears = {listener.name: listener} if listener else {}
    return TestClient(create_app(settings or Settings(), Engines({"espeak-ng": engine}, ears)))


def as_base64(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


def speak(client: Client, audio: bytes | str | None = None, **fields: Any) -> Any:
    audio = recording() if audio is None else audio
    ref_audio = as_base64(audio) if isinstance(audio, bytes) else audio
    return client.post(SPEECH, json={**HELLO, "ref_audio": ref_audio, **fields})


def error_of(answer: Any, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.fixture
def cloner() -> StylishEngine:
    return StylishEngine(clones=True)


@pytest.fixture
def ears() -> Listener:
    return Listener()


@pytest.fixture
def client(cloner: StylishEngine, ears: Listener) -> Iterator[Client]:
    with app_client(cloner, ears) as client:
        yield client


def test_recording_is_cloned_and_no_voice_is_stored(client: Client, cloner: StylishEngine) -> None:
    answer = speak(client, ref_text="What she says.")
    assert answer.status_code == 200
    assert answer.headers["x-rhapsode-voice"] == "cloned"
    (request,) = cloner.requests
    assert request.prompt is not None
    assert (request.prompt.text, request.language) == ("What she says.", None)
    prompt = cloner.prompts[request.prompt.digest]
    assert prompt.is_temporary
    assert prompt.text == "What she says."
    assert client.get(VOICES).json()["uploaded_voices"] == []


def test_prompt_is_that_of_a_voice_stored_from_the_same_recording(
    client: Client, cloner: StylishEngine
) -> None:
    speak(client, ref_text=TEXT)
    (lent,) = cloner.prompts.values()
    cloner.prompts.clear()
    data = {"name": "Ada", "prompt_text": TEXT}
    client.post(VOICES, data=data, files={"audio_sample": ("a.wav", recording())})
    client.post(SPEECH, json={**HELLO, "voice": "Ada"})
    borrowed, stored = (request.prompt for request in cloner.requests)
    assert borrowed == stored
    (kept,) = cloner.prompts.values()
    assert (lent.samples, lent.sample_rate) == (kept.samples, kept.sample_rate)
    assert (lent.is_temporary, kept.is_temporary) == (True, False)


def test_voice_of_the_request_is_ignored(client: Client, cloner: StylishEngine) -> None:
    for voice in (None, "alloy", "", {"id": "voice_nope"}):
        assert speak(client, ref_text=TEXT, voice=voice).status_code == 200
    assert {request.voice for request in cloner.requests} == {None}
    assert len({request.prompt.digest for request in cloner.requests if request.prompt}) == 1


@pytest.mark.parametrize("ref_text", [{}, {"ref_text": None}, {"ref_text": ""}])
def test_text_that_is_not_given_is_transcribed(
    client: Client, cloner: StylishEngine, ref_text: dict[str, Any]
) -> None:
    assert speak(client, **ref_text).status_code == 200
    (request,) = cloner.requests
    assert request.prompt is not None
    assert (request.prompt.text, request.language) == (TEXT, "en")


def test_language_of_the_request_comes_before_that_of_the_recording(
    client: Client, cloner: StylishEngine
) -> None:
    speak(client, language="zh")
    assert cloner.requests[0].language == "zh"
    (prompt,) = cloner.prompts.values()
    assert prompt.language == "en"


def test_same_recording_is_not_transcribed_again(
    client: Client, cloner: StylishEngine, ears: Listener
) -> None:
    audio = recording()
    for ref_audio in (as_base64(audio), f"data:audio/wav;base64,{as_base64(audio)}"):
        speak(client, ref_audio)
    once = ears.heard_samples
    assert once == pytest.approx(4 * 16_000, rel=0.1)
    speak(client, audio, ref_text="Given.")
    speak(client, audio)
    assert ears.heard_samples == once
    speak(client, recording(hz=200.0))
    assert ears.heard_samples > once
    texts = [request.prompt.text for request in cloner.requests if request.prompt]
    assert texts == [TEXT, TEXT, "Given.", TEXT, TEXT]
    assert [request.language for request in cloner.requests][2:4] == [None, "en"]


def test_recording_whose_text_was_given_first_is_transcribed_when_it_is_not(
    client: Client, cloner: StylishEngine
) -> None:
    speak(client, ref_text="Given.")
    speak(client)
    texts = [request.prompt.text for request in cloner.requests if request.prompt]
    assert texts == ["Given.", TEXT]


def test_engine_that_cannot_clone_follows_the_recording_and_needs_no_text() -> None:
    engine = StylishEngine(clones=False)
    with app_client(engine) as client:  # without a recogniser
        assert speak(client).headers["x-rhapsode-voice"] == "followed"
        assert speak(client, ref_text=TEXT).headers["x-rhapsode-voice"] == "followed"
    for request in engine.requests:
        assert request.prompt is None
        assert request.style is not None
        assert request.style.pitch_hz == pytest.approx(130, rel=0.05)


def test_engine_that_can_do_neither_says_so_and_speaks() -> None:
    with app_client(StylishEngine(clones=False, honours=())) as client:
        answer = speak(client)
        assert answer.headers["x-rhapsode-voice"] == "ignored"
        assert error_of(speak(client, b"not audio"))["param"] == "ref_audio"


@pytest.mark.parametrize(
    "audio",
    [
        "",
        "http://127.0.0.1:1/a.wav",
        "file:///etc/passwd",
        "no base64",
        b"not audio" * 50,
        recording(0.5),
        recording(60.0, rate=16_000),
        encode_whole("wav", np.zeros(24_000 * 5, np.float32)),
    ],
)
def test_what_is_no_prompt_is_refused_by_its_name(client: Client, audio: bytes | str) -> None:
    error = error_of(speak(client, audio, ref_text=TEXT))
    assert (error["param"], error["code"]) == ("ref_audio", "invalid_value")


def test_text_that_cannot_be_is_refused_by_its_name(client: Client) -> None:
    assert error_of(speak(client, ref_text="x" * 100_000))["param"] == "ref_text"
    body = {**HELLO, "voice": "alloy", "ref_text": "alone"}
    assert error_of(client.post(SPEECH, json=body))["param"] == "ref_text"


def test_recording_without_words_needs_its_text(cloner: StylishEngine) -> None:
    with app_client(cloner, Listener("")) as client:
        assert error_of(speak(client))["param"] == "ref_text"
        assert speak(client, ref_text=TEXT).status_code == 200


def test_recogniser_that_is_full_transcribes_no_recording_of_a_request(
    cloner: StylishEngine,
) -> None:
    ears = BusyListener()
    settings = Settings(pool=PoolConfig(max_jobs=1), queue=QueueSettings(waiting=0))
    with app_client(cloner, ears, settings) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(speak, client)
        try:
            assert ears.begun.wait(10)
            answer = speak(client, recording(hz=150.0))
            given = speak(client, recording(hz=150.0), ref_text=TEXT)
        finally:
            ears.released.set()
        assert error_of(answer, 429)["code"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
        assert given.status_code == first.result().status_code == 200


def test_without_a_recogniser_a_text_is_enough(cloner: StylishEngine) -> None:
    with app_client(cloner) as client:
        assert speak(client, ref_text=TEXT).status_code == 200
        assert error_of(speak(client), 503)["code"] == "engine_unavailable"


def test_recording_is_as_large_as_an_upload_may_be(cloner: StylishEngine) -> None:
    audio = recording()
    for spare, status in ((0, 200), (-1, 413)):
        limits = Limits(upload_bytes=len(audio) + spare, json_bytes=500)
        with app_client(cloner, settings=Settings(limits=limits)) as client:
            assert speak(client, audio, ref_text=TEXT).status_code == status


def test_no_voice_comes_in_without_the_consent_that_the_settings_ask_for(
    cloner: StylishEngine,
) -> None:
    settings = Settings(voices=VoiceSettings(require_consent=True))
    with app_client(cloner, settings=settings) as client:
        error = error_of(speak(client, ref_text=TEXT))
    assert (error["param"], error["code"]) == ("ref_audio", "consent_required")


def test_log_has_neither_the_recording_nor_its_text(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    speak(client, ref_text="A xylographic secret")
    (line,) = [message for message in caplog.messages if "event=speech" in message]
    assert "voice=ref_audio" in line
    assert "xylographic" not in caplog.text
    assert "UklGR" not in caplog.text


TONE = "engine.tests.fake:ToneSynthesizer"


def test_worker_speaks_with_the_recording_and_writes_nothing_of_it(user_folders: Path) -> None:
    """The whole way; the engine is as loud as its prompt."""
    rough, smooth = recording(harmonics=9), recording(harmonics=1)
    assert loudness(rough) != pytest.approx(loudness(smooth), rel=0.02)
    engine = EngineSettings(task="speech", devices=("cpu",), options={"clones": "1"})
    settings = Settings(speech_engines=(TONE,), engines={TONE: engine})
    pools = Engines({TONE: create_pools(settings).speech[TONE]})
    files = {path for path in user_folders.rglob("*") if path.is_file()}
    with TestClient(create_app(settings, pools)) as client:
        for audio in (rough, smooth, rough):
            answer = speak(client, audio, ref_text=TEXT)
            assert answer.headers["x-rhapsode-voice"] == "cloned"
            heard = np.abs(np.frombuffer(answer.content, "<i2")).max() / 32768
            assert heard == pytest.approx(loudness(audio), rel=0.01)
        assert {path for path in user_folders.rglob("*") if path.is_file()} == files


def loudness(audio: bytes) -> float:
    """Of the prompt that is made of it."""
    prompt = check_prompt(*decode_clip(io.BytesIO(audio), DecodeLimits()))
    return float(np.abs(prompt.samples).max())
