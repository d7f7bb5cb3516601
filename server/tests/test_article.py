"""/api/...: the article's calls around fake engines and a real store."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from litestar.testing import TestClient
from litestar.types import Message

from engine.errors import EngineFault
from engine.protocol import PromptSource
from engine.types import PcmChunk, SynthesisRequest
from server.app import create_app, create_pools
from server.catalog import Engines
from server.settings import EngineSettings, Limits, Settings, VoiceSettings
from server.tests.fake_voices import TEXT, Listener, StylishEngine, recording
from server.tests.fakes import CHUNK_SAMPLES, SAMPLE_RATE, FakeEngine, FakeListener, tone

Client = TestClient[Any]
TTS, STREAM, VOICES = "/api/tts", "/api/tts/stream", "/api/voices"
CHUNK_S = CHUNK_SAMPLES / SAMPLE_RATE
SAMPLING = ("style", "strategy", "temperature", "top_p", "top_k", "seed")


def app_client(
    engine: FakeEngine, listener: FakeListener | None = None, settings: Settings | None = None
) -> Client:
    ears = {listener.name: listener} if listener else {}
    return TestClient(create_app(settings or Settings(), Engines({"espeak-ng": engine}, ears)))


@pytest.fixture
def cloner() -> StylishEngine:
    return StylishEngine(clones=True, honours=SAMPLING)


@pytest.fixture
def ears() -> Listener:
    return Listener()


@pytest.fixture
def client(cloner: StylishEngine, ears: Listener) -> Iterator[Client]:
    with app_client(cloner, ears) as client:
        yield client


@pytest.fixture
def plain() -> Iterator[Client]:
    """An engine with voices of its own, and no others."""
    with app_client(FakeEngine()) as client:
        yield client


def speak(client: Client, audio: bytes | None = None, path: str = TTS, **fields: str) -> Any:
    files = None if audio is None else {"prompt_audio": ("a.wav", audio)}
    return client.post(path, data={"text": "one two", **fields}, files=files)


def store(client: Client, audio: bytes | None = None, **fields: str) -> Any:
    sample = recording() if audio is None else audio
    return client.post(VOICES, data={"name": "Ada", **fields}, files={"audio": ("a.wav", sample)})


def refused(answer: Any, status: int = 400, param: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert body["detail"] == error["message"]
    assert error["param"] == param
    return error


def events_of(body: str) -> list[dict[str, Any]]:
    """Data-only events, each one line and a blank one."""
    parts = body.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_form_becomes_a_wave_file_that_states_its_length(plain: Client) -> None:
    answer = speak(plain, voice_id="low")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-disposition"].startswith('attachment; filename="output_')
    assert int(answer.headers["content-length"]) == len(answer.content)
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.getnframes() == 2 * CHUNK_SAMPLES
    assert len(answer.content) == 44 + 2 * 2 * CHUNK_SAMPLES
    assert int.from_bytes(answer.content[4:8], "little") == len(answer.content) - 8


def test_form_without_a_file_may_be_urlencoded(plain: Client) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = plain.post(TTS, content="text=one+two&voice_id=low", headers=headers)
    assert answer.status_code == 200, answer.text
    refused(plain.post(TTS, json={"text": "one", "voice_id": "low"}))


def test_events_are_progress_and_chunk_in_turn_then_complete(plain: Client) -> None:
    answer = speak(plain, path=STREAM, text="one two three", voice_id="low")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [event["type"] for event in events] == ["progress", "chunk"] * 3 + ["complete"]
    chunks = events[1:-1:2]
    assert [chunk["index"] for chunk in chunks] == [0, 1, 2]
    assert [chunk["header_bytes"] for chunk in chunks] == [44, 0, 0]
    for chunk in chunks:
        form = chunk["format"], chunk["sample_rate"], chunk["channels"]
        assert form == ("pcm_s16le", 24_000, 1)
    durations = [event["duration"] for event in events[:-1:2]]
    assert durations == [pytest.approx(CHUNK_S * n, abs=1e-3) for n in (1, 2, 3)]
    complete = events[-1]
    assert (complete["chunks"], complete["duration"]) == (3, pytest.approx(3 * CHUNK_S))
    assert 0 < complete["ttfa"] <= complete["elapsed"]
    assert complete["rtf"] == pytest.approx(0.001 / CHUNK_S)


def test_chunks_joined_are_a_wave_file_of_the_same_speech(plain: Client) -> None:
    whole = speak(plain, voice_id="low").content
    events = events_of(speak(plain, path=STREAM, voice_id="low").text)
    chunks = [event for event in events if event["type"] == "chunk"]
    parts = [base64.b64decode(chunk["audio"], validate=True) for chunk in chunks]
    assert b"".join(parts)[:4] == b"RIFF"
    assert b"".join(parts)[44:] == whole[44:]
    bare = [part[chunk["header_bytes"] :] for chunk, part in zip(chunks, parts, strict=True)]
    assert b"".join(bare) == whole[44:]


def test_accepting_events_makes_the_plain_call_stream(plain: Client) -> None:
    headers = {"accept": "text/event-stream"}
    data = {"text": "one", "voice_id": "low"}
    answer = plain.post(TTS, data=data, headers=headers)
    assert [event["type"] for event in events_of(answer.text)] == ["progress", "chunk", "complete"]


def test_sampling_reaches_the_engine(client: Client, cloner: StylishEngine) -> None:
    answer = speak(
        client,
        recording(),
        prompt_text=TEXT,
        temperature="0.5",
        top_p="0.9",
        top_k="7",
        sampling_strategy="fast",
        seed="3",
    )
    assert answer.status_code == 200, answer.text
    assert "x-rhapsode-ignored" not in answer.headers
    (request,) = cloner.requests
    drawn = request.sampling
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.strategy) == (0.5, 0.9, 7, "fast")
    assert request.seed == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "99"),
        ("temperature", "0"),
        ("temperature", "nan"),
        ("top_p", "-3"),
        ("top_p", "1.1"),
        ("top_k", "0"),
        ("top_k", "1.5"),
        ("top_k", "1001"),
        ("sampling_strategy", "best"),
        ("strategy", "best"),
        ("seed", "-1"),
        ("seed", "x"),
    ],
)
@pytest.mark.parametrize("path", [TTS, STREAM])
def test_parameter_out_of_range_is_refused_by_name(
    plain: Client, path: str, field: str, value: str
) -> None:
    form = {"text": "one", "voice_id": "low", field: value}
    error = refused(plain.post(path, data=form), 400, field)
    assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("path", [TTS, STREAM])
def test_error_before_the_first_audio_is_a_status_with_a_detail(plain: Client, path: str) -> None:
    refused(speak(plain, path=path), 400, "voice_id")
    refused(speak(plain, path=path, voice_id="low", text=" "), 400, "text")
    error = refused(speak(plain, path=path, voice_id="nobody"), 404, "voice_id")
    assert error["code"] == "voice_not_found"
    refused(speak(plain, path=path, voice_id="low", text="break"), 500)
    refused(speak(plain, path=path, voice_id="low", text="silence"), 500)


def test_text_that_is_too_long_is_called_text() -> None:
    with app_client(FakeEngine(), settings=Settings(limits=Limits(input_chars=5))) as client:
        error = refused(speak(client, voice_id="low", text="too long"), 400, "text")
        assert error["message"].startswith("text: 8 characters")
        # Only here: /v1 says it as OpenAI does.
        body = {"model": "tts-1", "voice": "low", "input": "too long"}
        answer = client.post("/v1/audio/speech", json=body).json()
    assert set(answer) == {"error"}
    assert answer["error"]["param"] == "input"


def test_engine_that_is_not_up_is_503_with_a_detail() -> None:
    with app_client(FakeEngine(is_up=False)) as client:
        answer = speak(client, voice_id="low")
    refused(answer, 503)
    assert answer.headers["retry-after"] == "2"


def test_recording_wins_over_the_voice_and_is_not_stored(
    client: Client, cloner: StylishEngine
) -> None:
    answer = speak(client, recording(), voice_id="nobody", prompt_text="What she says.")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-rhapsode-voice"] == "cloned"
    (request,) = cloner.requests
    assert request.voice is None
    assert request.prompt is not None
    prompt = cloner.prompts[request.prompt.digest]
    assert (prompt.text, prompt.is_temporary) == ("What she says.", True)
    assert client.get(VOICES).json() == {"voices": []}
    assert client.get("/v1/audio/voices").json()["uploaded_voices"] == []


def test_recording_without_a_text_is_transcribed_unless_that_is_forbidden(
    client: Client, cloner: StylishEngine, ears: Listener
) -> None:
    refused(speak(client, recording(), skip_whisper="true"), 400, "prompt_text")
    assert not ears.heard_samples
    assert speak(client, recording()).status_code == 200
    assert [request.prompt.text for request in cloner.requests if request.prompt] == [TEXT]
    given = speak(client, recording(), prompt_text="Given.", skip_whisper="true")
    assert given.status_code == 200
    refused(speak(client, recording(), skip_whisper="perhaps"), 400, "skip_whisper")


def test_what_is_no_recording_is_refused_by_the_forms_name(client: Client) -> None:
    error = refused(speak(client, b"not audio at all"), 400, "prompt_audio")
    assert "ref_audio" not in error["message"]
    refused(store(client, b"not audio at all"), 400, "audio")
    assert client.get(VOICES).json() == {"voices": []}


def test_recording_in_which_nothing_is_understood_asks_for_prompt_text(
    cloner: StylishEngine,
) -> None:
    with app_client(cloner, Listener("")) as client:
        error = refused(speak(client, recording()), 400, "prompt_text")
        assert "send prompt_text" in error["message"]
        assert "send text" in refused(store(client), 400, "text")["message"]


def test_voice_is_stored_spoken_with_heard_and_deleted(
    client: Client, cloner: StylishEngine
) -> None:
    answer = store(client, text=TEXT)
    assert answer.status_code == 200, answer.text
    voice = answer.json()
    assert set(voice) == {"id", "name", "text", "audio_path", "created_at"}
    assert (voice["name"], voice["text"]) == ("Ada", TEXT)
    assert client.get(VOICES).json() == {"voices": [voice]}
    assert client.get(f"{VOICES}/{voice['id']}").json() == voice
    with wave.open(io.BytesIO(client.get(voice["audio_path"]).content)) as file:
        assert file.getnframes() / file.getframerate() > 3
    assert speak(client, voice_id=voice["id"], prompt_text="Not needed.").status_code == 200
    assert cloner.requests[-1].prompt is not None
    assert cloner.requests[-1].prompt.text == TEXT
    deleted = client.delete(f"{VOICES}/{voice['id']}")
    assert (deleted.status_code, deleted.json()) == (200, {"id": voice["id"], "status": "ok"})
    assert client.get(VOICES).json() == {"voices": []}
    for path in (f"{VOICES}/{voice['id']}", voice["audio_path"]):
        refused(client.get(path), 404, "voice")


def test_voice_without_a_text_is_transcribed_unless_that_is_forbidden(client: Client) -> None:
    error = refused(store(client, skip_whisper="true"), 400, "text")
    assert error["code"] == "missing_required_parameter"
    assert store(client).json()["text"] == TEXT


def test_no_path_is_a_voice(client: Client) -> None:
    for voice in ("../../secret/x", "/etc/passwd", "..%2f..%2fx"):
        assert client.get(f"{VOICES}/{voice}").status_code == 404


def test_consent_is_needed_where_voices_need_one(cloner: StylishEngine, ears: Listener) -> None:
    settings = Settings(voices=VoiceSettings(require_consent=True))
    with app_client(cloner, ears, settings) as client:
        assert refused(speak(client, recording()), 400, "prompt_audio")
        assert store(client, text=TEXT).status_code == 404
        assert client.get(VOICES).json() == {"voices": []}


def test_keys_guard_every_route(cloner: StylishEngine, ears: Listener) -> None:
    with app_client(cloner, ears, Settings(api_keys=("secret", "other"))) as client:
        calls = [
            ("POST", TTS),
            ("POST", STREAM),
            ("GET", VOICES),
            ("POST", VOICES),
            ("GET", f"{VOICES}/x"),
            ("DELETE", f"{VOICES}/x"),
            ("GET", f"{VOICES}/x/audio"),
            ("GET", "/api/gpu/status"),
            ("POST", "/api/gpu/offload"),
            ("GET", "/api/emotions"),
        ]
        for method, path in calls:
            refused(client.request(method, path), 401)
        client.headers["authorization"] = "Bearer secret"
        voice = store(client, text=TEXT).json()
        client.headers["authorization"] = "Bearer other"
        assert client.get(VOICES).json() == {"voices": []}
        refused(client.get(voice["audio_path"]), 404, "voice")
        refused(client.delete(f"{VOICES}/{voice['id']}"), 404, "voice")
        # To the engine it is a name like any other, which only a real one refuses.
        speak(client, voice_id=voice["id"])
        assert cloner.requests[-1].prompt is None


def test_form_that_is_too_large_is_413() -> None:
    with app_client(FakeEngine(), settings=Settings(limits=Limits(upload_bytes=9_000))) as client:
        refused(speak(client, bytes(10_000)), 413)


def test_no_emotion_is_promised(plain: Client) -> None:
    assert plain.get("/api/emotions").json() == {"emotions": []}


def test_health_says_what_the_article_says(plain: Client) -> None:
    assert plain.get("/health").json()["status"] == "healthy"


MOVABLE = "engine.tests.fake:MovableTone"
FIXED = "engine.tests.fake:ToneSynthesizer"


def with_workers(**devices: tuple[str, ...]) -> Client:
    """Real workers of the tone engines, and no others; "movable" can leave its device."""
    names = {"movable": MOVABLE, "fixed": FIXED}
    engines = {
        name: EngineSettings(enabled=False)
        for name in ("glm-tts", "pocketsphinx", "whisper", "espeak-ng")
    }
    engines |= {names[name]: EngineSettings(devices=each) for name, each in devices.items()}
    speakers = tuple(names[name] for name in devices)
    settings = Settings(engines=engines, speech_engines=speakers)
    return TestClient(create_app(settings, create_pools(settings)))


def load(client: Client, *names: str) -> None:
    for name in names:
        assert client.post(f"/v1/engines/{name}/load").status_code == 200


def gpu_status(client: Client) -> dict[str, Any]:
    answer = client.get("/api/gpu/status")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_gpu_status_is_measured_and_offload_frees_the_memory() -> None:
    with with_workers(movable=("tone:0", "tone:1"), fixed=("cpu",)) as client:
        load(client, MOVABLE, FIXED)
        before = gpu_status(client)
        assert before["loaded"] is True
        assert before["gpu_memory_used_bytes"] == 2000
        assert before["gpu_memory_total_bytes"] == 20_000
        assert before["gpu_memory_used"] == round(2000 / 2**30, 2)
        assert before["idle_time"] >= 0
        by_device = {device["device"]: device for device in before["devices"]}
        assert list(by_device) == ["tone:0", "tone:1", "cpu"]
        assert by_device["tone:0"]["free_bytes"] == 9000
        assert (by_device["tone:0"]["engines"], by_device["tone:0"]["loaded"]) == (
            [MOVABLE],
            [MOVABLE],
        )
        offload = client.post("/api/gpu/offload")
        assert offload.status_code == 200, offload.text
        assert offload.json()["status"] == "ok"
        assert offload.json()["offloaded"] == [MOVABLE]
        assert offload.json()["freed_bytes"] == 1980
        after = gpu_status(client)
        assert (after["loaded"], after["gpu_memory_used_bytes"]) == (False, 20)
        assert client.post("/api/gpu/offload").json()["offloaded"] == []
        assert speak(client, voice_id="low").status_code == 200
        assert gpu_status(client)["loaded"] is True


def test_engine_that_cannot_leave_its_gpu_is_stopped() -> None:
    with with_workers(fixed=("tone:0",)) as client:
        load(client, FIXED)
        # It cannot be measured, and no figure is made up.
        assert gpu_status(client)["gpu_memory_used"] is None
        offload = client.post("/api/gpu/offload").json()
        assert (offload["offloaded"], offload["freed_bytes"]) == ([FIXED], None)
        after = gpu_status(client)
        assert (after["loaded"], after["gpu_memory_used_bytes"]) == (False, 0)


def test_without_a_gpu_its_memory_is_none_and_nothing_is_offloaded() -> None:
    with with_workers(fixed=("cpu",)) as client:
        load(client, FIXED)
        before = gpu_status(client)
        assert before["loaded"] is True
        assert (before["gpu_memory_used"], before["gpu_memory_total"]) == (0, 0)
        assert before["devices"][0]["used_bytes"] > 1 << 20
        offload = client.post("/api/gpu/offload").json()
        assert (offload["offloaded"], offload["freed_bytes"]) == ([], 0)
        assert gpu_status(client)["loaded"] is True


def test_gpu_that_is_at_work_is_not_freed() -> None:
    with with_workers(movable=("tone:0",)) as client:
        load(client, MOVABLE)
        (pool,) = client.app.dependencies["pools"].dependency().values()
        with pool._seats[0].hold():
            error = refused(client.post("/api/gpu/offload"))
            assert error["code"] == "engine_busy"
            assert gpu_status(client)["idle_time"] is None
        assert gpu_status(client)["gpu_memory_used_bytes"] == 1000


class Tap:
    """An engine that gives a chunk only when the test lets it."""

    name = "espeak-ng"

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.began = asyncio.Event()
        self.closed = asyncio.Event()
        self.error: Exception | None = None
        self.given = 0
        self.has_finished = False
        self._fake = FakeEngine()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)

    async def synthesize(
        self, request: SynthesisRequest, request_id: str, prompt: PromptSource | None = None
    ) -> AsyncGenerator[PcmChunk, None]:
        try:
            for _ in range(3):
                await self.go.acquire()
                if self.error:
                    raise self.error
                self.given += 1
                self.began.set()
                yield PcmChunk(tone(), compute_s=0.001)
            await self.go.acquire()
            self.has_finished = True
        finally:
            self.closed.set()


class Call:
    """One request to an app in this event loop, whose messages are looked at as they come."""

    def __init__(self, engine: Any, path: str = STREAM) -> None:
        self.app = create_app(Settings(), Engines({"espeak-ng": engine}, {}))
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.left = asyncio.Event()
        self.path = path
        self._body: list[bytes] = [b"text=one&voice_id=low"]

    async def run(self) -> None:
        headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"host", b"test")]
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        await self.app(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.sent.put(message)

    async def message(self) -> Any:
        """The next one; a test that it does not come for fails instead of hanging."""
        return await asyncio.wait_for(self.sent.get(), 5.0)

    async def events(self) -> list[dict[str, Any]]:
        """Those of the next message."""
        message = await self.message()
        return events_of(message["body"].decode())


@pytest.mark.anyio
async def test_each_chunk_leaves_before_the_engine_has_made_the_next() -> None:
    engine = Tap()
    call = Call(engine)
    task = asyncio.create_task(call.run())
    engine.go.release()
    head = await call.message()
    assert head["status"] == 200
    for index in range(3):
        progress, chunk = await call.events()
        assert (progress["type"], chunk["type"], chunk["index"]) == ("progress", "chunk", index)
        # The engine waits for the test: no later chunk exists, and it has not come to its end.
        assert (engine.given, engine.has_finished) == (index + 1, False)
        engine.go.release()
    (complete,) = await call.events()
    assert complete["type"] == "complete"
    await asyncio.wait_for(task, 5.0)


@pytest.mark.anyio
async def test_nothing_is_answered_before_the_first_audio() -> None:
    engine = Tap()
    engine.error = EngineFault("the engine broke")
    call = Call(engine)
    task = asyncio.create_task(call.run())
    engine.go.release()
    head = await call.message()
    assert head["status"] == 500
    await asyncio.wait_for(task, 5.0)


@pytest.mark.anyio
async def test_failure_between_chunks_is_an_event_and_breaks_the_stream_off() -> None:
    engine = Tap()
    call = Call(engine)
    task = asyncio.create_task(call.run())
    engine.go.release()
    await call.message()
    await call.events()
    engine.error = EngineFault("the engine broke")
    engine.go.release()
    assert await call.events() == [{"type": "error", "message": "the engine broke"}]
    await asyncio.wait_for(task, 5.0)
    assert call.sent.empty()  # no last message: the server breaks the connection off
    assert engine.closed.is_set()


@pytest.mark.anyio
@pytest.mark.parametrize("path", [TTS, STREAM])
async def test_engine_is_cancelled_when_the_client_leaves(path: str) -> None:
    engine = Tap()
    call = Call(engine, path)
    task = asyncio.create_task(call.run())
    engine.go.release()
    if path == STREAM:
        await call.message()
        await call.events()
    else:
        await asyncio.wait_for(engine.began.wait(), 5.0)
    assert not engine.closed.is_set()
    call.left.set()
    await asyncio.wait_for(task, 5.0)
    assert engine.closed.is_set()
    assert (engine.given, engine.has_finished) == (1, False)
