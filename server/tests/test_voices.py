"""The voice endpoints around fake engines and a real store."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from engine.config import PoolConfig
from server.app import create_app
from server.audio.encoder import encode_whole
from server.catalog import Engines
from server.settings import EngineSettings, QueueSettings, Settings, VoiceSettings
from server.tests.fake_voices import TEXT, BusyListener, Listener, StylishEngine, recording
from server.tests.fakes import FakeEngine, FakeListener
from voices.builtin import builtin_voices
from voices.limits import StoreLimits

Client = TestClient[Any]
VOICES = "/v1/audio/voices"
CONSENTS = "/v1/audio/voice_consents"
SPEECH = "/v1/audio/speech"


def app_client(
    engine: FakeEngine | None = None,
    listener: FakeListener | None = None,
    settings: Settings | None = None,
) -> Client:
    ears = {listener.name: listener} if listener else {}
    engines = Engines({"espeak-ng": engine or StylishEngine(clones=False)}, ears)
    return TestClient(create_app(settings or Settings(), engines))


@pytest.fixture
def client() -> Iterator[Client]:
    with app_client(listener=Listener()) as client:
        yield client


def upload(client: Client, audio: bytes | None = None, **fields: Any) -> Any:
    data = {"name": "Ada", "consent": "cons_any", "prompt_text": TEXT, **fields}
    given = {name: value for name, value in data.items() if value is not None}
    sample = recording() if audio is None else audio
    return client.post(VOICES, data=given, files={"audio_sample": ("a.wav", sample)})


def refused(answer: Any, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def names(client: Client) -> list[str]:
    return [voice["name"] for voice in client.get(VOICES).json()["uploaded_voices"]]


def speak(client: Client, voice: object) -> Any:
    body = {"model": "tts-1", "voice": voice, "input": "hello", "response_format": "pcm"}
    return client.post(SPEECH, json=body)


def test_upload_answers_with_the_voice_as_the_sdk_knows_it(client: Client) -> None:
    body = upload(client).json()
    assert body["object"] == "audio.voice"
    assert body["type"] == "audio_sample"
    assert body["id"].startswith("voice_")
    assert body["name"] == "Ada"
    assert isinstance(body["created_at"], int)
    assert body["success"] is True
    assert (body["prompt_text"], body["text_source"]) == (TEXT, "given")
    assert body["report"]["duration_s"] > 3


def test_voice_is_found_by_id_and_by_name(client: Client) -> None:
    made = upload(client).json()
    assert client.get(f"{VOICES}/{made['id']}").json()["id"] == made["id"]
    assert client.get(f"{VOICES}/ada").json()["id"] == made["id"]
    assert names(client) == ["Ada"]
    listed = {voice["id"]: voice["name"] for voice in client.get(VOICES).json()["voices"]}
    assert listed[made["id"]] == "Ada"
    assert "alloy" in listed


def test_voice_survives_a_restart() -> None:
    with app_client(listener=Listener()) as client:
        made = upload(client).json()
    with app_client(listener=Listener()) as client:
        assert client.get(f"{VOICES}/{made['id']}").json()["prompt_text"] == TEXT


def test_text_that_is_not_given_is_transcribed_once_and_kept() -> None:
    ears = Listener()
    with app_client(listener=ears) as client:
        body = upload(client, prompt_text=None).json()
    assert (body["prompt_text"], body["text_source"]) == (TEXT, "transcribed")
    assert (body["text_engine"], body["text_confidence"]) == ("ears", 0.8)
    assert body["text_is_reliable"] is True
    assert body["language"] == "en"
    assert ears.heard_samples == pytest.approx(16_000 * body["duration_s"], rel=0.01)


def test_text_of_a_poor_recogniser_is_called_unreliable_and_can_be_corrected() -> None:
    with app_client(listener=Listener("the bird canoe", is_accurate=False)) as client:
        body = upload(client, prompt_text=None).json()
        assert body["text_is_reliable"] is False
        assert any("correct it" in warning for warning in body["report"]["warnings"])
        changed = client.patch(f"{VOICES}/{body['id']}", json={"prompt_text": TEXT}).json()
    assert (changed["prompt_text"], changed["text_source"]) == (TEXT, "given")
    assert changed["text_is_reliable"] is True


def test_text_of_another_recording_is_warned_of() -> None:
    with app_client(listener=Listener("Something else was said here entirely, it seems")) as client:
        body = upload(client).json()
    assert any("dropped or repeated" in warning for warning in body["report"]["warnings"])
    assert body["text_is_reliable"] is False
    assert body["prompt_text"] == TEXT


def test_poor_recogniser_does_not_doubt_a_given_text() -> None:
    with app_client(listener=Listener("what", is_accurate=False)) as client:
        body = upload(client).json()
    assert body["text_is_reliable"] is True


def test_no_text_and_no_transcript_is_refused(client: Client) -> None:
    assert refused(upload(client, prompt_text=None, skip_whisper="true"))["param"] == "prompt_text"
    assert upload(client, skip_whisper="true").status_code == 200


def test_recording_without_words_needs_its_text() -> None:
    with app_client(listener=Listener("")) as client:
        assert refused(upload(client, prompt_text=None))["param"] == "prompt_text"
        assert names(client) == []


def test_without_a_recogniser_a_text_is_enough() -> None:
    with app_client() as client:
        assert upload(client).status_code == 200
        assert refused(upload(client, name="B", prompt_text=None), 503)["code"]


def transcribe(client: Client) -> Any:
    return client.post(
        "/v1/audio/transcriptions", data={"model": "whisper"}, files={"file": recording()}
    )


def upload_without_text(client: Client) -> Any:
    return upload(client, name="B", prompt_text=None)


def article_upload(client: Client) -> Any:
    return client.post("/api/voices", data={"name": "C"}, files={"audio": ("a.wav", recording())})


@pytest.mark.parametrize(
    ("running", "asked"),
    [
        (transcribe, upload_without_text),
        (transcribe, upload),
        (transcribe, article_upload),
        (upload, transcribe),
        (upload_without_text, upload),
    ],
)
def test_recogniser_that_is_full_takes_no_upload_either(
    running: Callable[[Client], Any], asked: Callable[[Client], Any]
) -> None:
    ears = BusyListener()
    settings = Settings(pool=PoolConfig(max_jobs=1), queue=QueueSettings(waiting=0))
    with app_client(listener=ears, settings=settings) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(running, client)
        try:
            assert ears.begun.wait(10)
            answer = asked(client)
            assert names(client) == []
        finally:
            ears.released.set()
        assert refused(answer, 429)["code"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
        assert first.result().status_code == 200
        assert asked(client).status_code == 200


def test_text_comes_under_the_names_that_other_clients_use(client: Client) -> None:
    body = upload(
        client, prompt_text=None, ref_text=TEXT, speaker_description="calm", language="en-GB"
    ).json()
    assert (body["prompt_text"], body["description"], body["language"]) == (TEXT, "calm", "en-GB")


@pytest.mark.parametrize(
    ("audio", "param"),
    [
        (b"", "audio_sample"),
        (b"not audio" * 50, "audio_sample"),
        (recording(0.5), "audio_sample"),
        (recording(60.0, rate=16_000), "audio_sample"),
        (encode_whole("wav", np.zeros(24_000 * 5, np.float32)), "audio_sample"),
    ],
)
def test_recording_that_cannot_be_a_prompt_is_refused_and_nothing_is_kept(
    client: Client, audio: bytes, param: str
) -> None:
    assert refused(upload(client, audio))["param"] == param
    assert names(client) == []


@pytest.mark.parametrize(
    "name",
    ["", "x" * 10_000, "../up", "a/b", "..", "a\x00b", "a\u200bb", "a\u202eb", "voice_" + "0" * 26],
)
def test_name_that_cannot_be_is_refused(client: Client, name: str) -> None:
    assert refused(upload(client, name=name))["param"] == "name"
    assert names(client) == []


def test_name_is_taken_once(client: Client) -> None:
    upload(client)
    error = refused(upload(client, name=" ADA "))
    assert (error["param"], error["code"]) == ("name", "name_taken")


def test_missing_parts_are_named(client: Client) -> None:
    assert refused(upload(client, name=None))["param"] == "name"
    answer = client.post(VOICES, data={"name": "Ada"}, files={"other": b"x"})
    assert refused(answer)["param"] == "audio_sample"


def test_voices_are_not_made_from_descriptions(client: Client) -> None:
    answer = client.post(VOICES, data={"type": "prompt", "name": "x"}, files={"a": b""})
    assert refused(answer)["param"] == "type"


def test_deleted_voice_is_gone(client: Client) -> None:
    made = upload(client).json()
    assert client.delete(f"{VOICES}/{made['id']}").json() == {
        "object": "audio.voice.deleted",
        "id": made["id"],
        "deleted": True,
        "success": True,
    }
    assert client.delete(f"{VOICES}/{made['id']}").status_code == 404
    assert names(client) == []


def test_voice_can_be_renamed(client: Client) -> None:
    made = upload(client).json()
    assert client.patch(f"{VOICES}/{made['id']}", json={"name": "Eve"}).json()["name"] == "Eve"
    assert client.get(f"{VOICES}/Ada").status_code == 404
    assert refused(client.patch(f"{VOICES}/{made['id']}", json={"name": "a/b"}))["param"] == "name"


def test_voice_may_be_called_what_a_url_is_called(client: Client) -> None:
    made = upload(client, name="import").json()
    assert client.get(f"{VOICES}/import").json()["id"] == made["id"]
    assert client.get(f"{VOICES}/import/audio").status_code == 200
    changed = client.patch(f"{VOICES}/import", json={"description": "calm"}).json()
    assert changed["description"] == "calm"
    assert client.delete(f"{VOICES}/import").json()["id"] == made["id"]
    assert client.delete(f"{VOICES}/import").status_code == 404


def test_audio_is_given_back_as_flac(client: Client) -> None:
    made = upload(client).json()
    answer = client.get(f"{VOICES}/{made['id']}/audio")
    assert answer.headers["content-type"] == "audio/flac"
    assert answer.content.startswith(b"fLaC")


def test_exported_voice_comes_back_with_the_same_sound(client: Client) -> None:
    made = upload(client).json()
    archive = client.get(f"{VOICES}/{made['id']}/export")
    assert archive.headers["content-type"] == "application/zip"
    taken = client.post(f"{VOICES}/import", files={"file": ("v.zip", archive.content)})
    assert refused(taken)["code"] == "name_taken"
    again = client.post(
        f"{VOICES}/import", data={"name": "Copy"}, files={"file": ("v.zip", archive.content)}
    ).json()
    assert again["id"] != made["id"]
    sounds = [client.get(f"{VOICES}/{v['id']}/audio").content for v in (made, again)]
    assert sounds[0] == sounds[1]


@pytest.mark.parametrize("data", [b"", b"junk", b"PK\x03\x04" + bytes(100)])
def test_archive_that_is_none_is_refused(client: Client, data: bytes) -> None:
    answer = client.post(f"{VOICES}/import", files={"file": ("v.zip", data)})
    assert refused(answer)["param"] == "file"


def test_engine_that_cannot_clone_follows_the_voice_and_says_so() -> None:
    engine = StylishEngine(clones=False)
    with app_client(engine, Listener()) as client:
        made = upload(client, recording(hz=130.0)).json()
        for voice in (made["id"], "Ada", {"id": made["id"]}):
            answer = speak(client, voice)
            assert answer.status_code == 200
            assert answer.headers["x-rhapsode-voice"] == "followed"
        assert "x-rhapsode-voice" not in speak(client, "alloy").headers
    style = engine.requests[0].style
    assert style is not None
    assert style.pitch_hz == pytest.approx(130, rel=0.05)
    assert engine.requests[0].voice is None
    assert engine.requests[-1].style is None
    assert engine.prepared == []


def test_engine_that_clones_is_given_the_prompt_and_warmed() -> None:
    engine = StylishEngine(clones=True)
    with app_client(engine, Listener()) as client:
        made = upload(client).json()
        answer = speak(client, made["id"])
        assert answer.headers["x-rhapsode-voice"] == "cloned"
    (request,) = engine.requests
    assert request.prompt is not None
    assert request.prompt.text == TEXT
    (warmed,) = engine.prepared
    assert warmed.digest == request.prompt.digest
    assert len(warmed.samples) == 4 * round(warmed.sample_rate * made["duration_s"])


def test_voice_named_like_an_alias_comes_before_it() -> None:
    engine = StylishEngine(clones=True)
    with app_client(engine, Listener()) as client:
        upload(client, name="alloy")
        assert speak(client, "alloy").headers["x-rhapsode-voice"] == "cloned"


def test_name_in_the_settings_may_mean_a_stored_voice() -> None:
    settings = Settings(engines={"espeak-ng": EngineSettings(voices={"narrator": "Ada"})})
    with app_client(StylishEngine(clones=True), Listener(), settings) as client:
        upload(client)
        assert speak(client, "narrator").headers["x-rhapsode-voice"] == "cloned"


def test_keys_see_and_change_only_their_own_voices() -> None:
    settings = Settings(api_keys=("key-a", "key-b"))
    a, b = ({"authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
    with app_client(listener=Listener(), settings=settings) as client:
        client.headers.update(a)
        made = upload(client).json()
        client.headers.update(b)
        assert client.get(f"{VOICES}/{made['id']}").status_code == 404
        assert client.delete(f"{VOICES}/{made['id']}").status_code == 404
        assert names(client) == []
        assert upload(client).status_code == 200
        assert speak(client, made["id"]).headers.get("x-rhapsode-voice") is None
        client.headers.update(a)
        assert names(client) == ["Ada"]
        del client.headers["authorization"]
        assert client.post(VOICES, data={"name": "x"}).status_code == 401


def test_limits_of_the_store_are_answered_as_such() -> None:
    limits = StoreLimits(per_owner=1)
    settings = Settings(voices=VoiceSettings(limits=limits))
    with app_client(listener=Listener(), settings=settings) as client:
        upload(client)
        assert refused(upload(client, name="B"))["code"] == "too_many"
    small = Settings(voices=VoiceSettings(limits=StoreLimits(total_bytes=1)))
    with app_client(listener=Listener(), settings=small) as client:
        assert upload(client, name="C").status_code == 507


def consent(client: Client, name: str = "Ada") -> Any:
    data = {"name": name, "language": "en-US"}
    return client.post(CONSENTS, data=data, files={"recording": ("c.wav", recording(1.0))})


def test_consents_live_as_the_sdk_expects(client: Client) -> None:
    made = consent(client).json()
    assert made["object"] == "audio.voice_consent"
    assert made["id"].startswith("cons_")
    path = f"{CONSENTS}/{made['id']}"
    assert client.get(path).json() == made
    assert client.post(path, json={"name": "Eve"}).json()["name"] == "Eve"
    assert client.delete(path).json() == {
        "object": "audio.voice_consent",
        "id": made["id"],
        "deleted": True,
    }
    assert client.get(path).status_code == 404


def test_pages_of_consents_end(client: Client) -> None:
    made = [consent(client, f"c{number}").json()["id"] for number in range(5)]
    seen: list[str] = []
    after = ""
    for _ in range(10):
        page = client.get(CONSENTS, params={"limit": 2, "after": after}).json()
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert seen == list(reversed(made))


@pytest.mark.parametrize("limit", ["0", "101", "many"])
def test_page_that_cannot_be_is_refused(client: Client, limit: str) -> None:
    assert refused(client.get(CONSENTS, params={"limit": limit}))["param"] == "limit"


def test_consent_is_checked_when_the_settings_ask_for_it() -> None:
    settings = Settings(voices=VoiceSettings(require_consent=True))
    with app_client(listener=Listener(), settings=settings) as client:
        assert refused(upload(client), 404)["param"] == "consent"
        given = consent(client).json()["id"]
        assert upload(client, consent=given).status_code == 200


def test_names_of_openai_are_prompts_for_an_engine_that_clones() -> None:
    engine = StylishEngine(clones=True)
    engine.name = "a:cloner"
    settings = Settings(speech_engines=("a:cloner",), engines={"a:cloner": EngineSettings()})
    with TestClient(create_app(settings, Engines({"a:cloner": engine}))) as client:
        listed = {voice["id"] for voice in client.get(VOICES).json()["voices"]}
        assert set(builtin_voices()) <= listed
        answer = speak(client, "shimmer")
    assert answer.headers["x-rhapsode-voice"] == "cloned"
    assert engine.requests[0].prompt is not None
    assert engine.requests[0].prompt.digest == builtin_voices()["shimmer"].sample_digest
