"""The article's ten tests of its service, by its numbers and names, against this server.

Its calls are sent as it shows them: multipart forms, with its own fields and paths. What it ticked
off is asked for in earnest: audio is decoded, figures are looked at, and a stream must come while
the speech is made.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import httpx
import pytest

from compat_tests.audio import SILENCE_RMS, Clip, decode
from compat_tests.conftest import TIMEOUT_S
from compat_tests.process import ServerProcess, running_jobs
from compat_tests.texts import MAX_INPUT, SENTENCE, WEATHER
from compat_tests.waiting import wait_for

ServerFactory = Callable[[Mapping[str, str]], ServerProcess]
TTS, STREAM, VOICES = "/api/tts", "/api/tts/stream", "/api/voices"
SAID = "Good morning. How are you today? It is a fine day for a walk in the park."
ENDLESS = "777777 " * (MAX_INPUT // 7)
"""Half an hour of speech: more than lies in all buffers between the engine and a slow reader."""
VOICE_KEYS = {"id", "name", "text", "audio_path", "created_at"}


@pytest.fixture(scope="module")
def article(server_factory: ServerFactory) -> Iterator[httpx.Client]:
    """A server whose store holds the voices of this file alone."""
    server = server_factory({})
    with httpx.Client(base_url=server.base_url, timeout=TIMEOUT_S) as http:
        yield http


@pytest.fixture(scope="module")
def reference(article: httpx.Client) -> bytes:
    """A recording of SAID as a wave file."""
    body = {"model": "tts-1", "voice": "nova", "input": SAID, "response_format": "wav"}
    return article.post("/v1/audio/speech", json=body).raise_for_status().content


@pytest.fixture(scope="module")
def voice(article: httpx.Client, reference: bytes) -> dict[str, Any]:
    return upload(article, reference, "测试语音", text=SAID)


def upload(http: httpx.Client, audio: bytes, name: str, **fields: str) -> dict[str, Any]:
    files = {"audio": ("reference.wav", audio, "audio/wav")}
    answer = http.post(VOICES, data={"name": name, **fields}, files=files)
    assert answer.status_code == 200, answer.text
    voice: dict[str, Any] = answer.json()
    return voice


def speak(http: httpx.Client, audio: bytes | None = None, **fields: str) -> httpx.Response:
    files = {"prompt_audio": ("reference.wav", audio, "audio/wav")} if audio else None
    return http.post(TTS, data={"text": SENTENCE, **fields}, files=files)


def assert_spoken(answer: httpx.Response) -> Clip:
    """A wave file to save, of the length that its header states, in which somebody speaks."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    wav = answer.content
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    assert int.from_bytes(wav[40:44], "little") == len(wav) - 44
    clip = decode(wav, "wav")
    assert (clip.sample_rate, clip.channels) == (24_000, 1)
    assert clip.duration_s > 2
    assert clip.rms > SILENCE_RMS
    return clip


def test_1_health_check(article: httpx.Client) -> None:
    answer = article.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "healthy"


def test_2_gpu_status(article: httpx.Client, reference: bytes) -> None:
    assert_spoken(speak(article, reference, prompt_text=SAID))
    status = article.get("/api/gpu/status").raise_for_status().json()
    assert status["loaded"] is True
    assert 0 <= status["gpu_memory_used"] <= status["gpu_memory_total"]
    assert status["gpu_memory_used"] == pytest.approx(
        status["gpu_memory_used_bytes"] / 2**30, abs=0.01
    )
    assert status["idle_time"] >= 0
    for device in status["devices"]:
        assert 0 < device["used_bytes"] < device["total_bytes"]
    busy = {"text": ENDLESS, "voice_id": "alloy"}
    with article.stream("POST", STREAM, data=busy) as stream:
        body = stream.iter_bytes()  # dropped, it would end the call
        assert next(body)
        assert article.get("/api/gpu/status").json()["idle_time"] is None


def test_3_tts_with_prompt_text(article: httpx.Client, reference: bytes) -> None:
    assert_spoken(speak(article, reference, prompt_text=SAID))
    assert article.get(VOICES).json() == {"voices": []}


def test_4_tts_auto_whisper(article: httpx.Client, reference: bytes) -> None:
    assert_spoken(speak(article, reference))
    heard = upload(article, reference, "Heard")
    assert len(heard["text"].split()) > 3
    assert article.delete(f"{VOICES}/{heard['id']}").status_code == 200


def test_5_tts_skip_whisper(article: httpx.Client, reference: bytes) -> None:
    assert_spoken(speak(article, reference, prompt_text=SAID, skip_whisper="true"))
    refused = speak(article, reference, skip_whisper="true")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "prompt_text"
    assert "prompt_text" in refused.json()["detail"]


def test_6_list_voices(article: httpx.Client, voice: dict[str, Any]) -> None:
    listed = article.get(VOICES).raise_for_status().json()
    assert set(listed) == {"voices"}
    assert voice in listed["voices"]
    for each in listed["voices"]:
        assert set(each) == VOICE_KEYS
        assert datetime.fromisoformat(each["created_at"]).tzinfo is not None
        assert decode(article.get(each["audio_path"]).content, "wav").duration_s > 3


def test_7_tts_with_voice_id(article: httpx.Client, voice: dict[str, Any]) -> None:
    answer = speak(article, voice_id=voice["id"])
    assert answer.headers["x-rhapsode-voice"] in ("cloned", "followed")
    assert_spoken(answer)
    missing = speak(article, voice_id="20251212_173357")
    assert missing.status_code == 404
    assert "not found" in missing.json()["detail"]


def test_8_upload_new_voice(article: httpx.Client, reference: bytes) -> None:
    new = [upload(article, reference, f"New {n}", text=SAID) for n in range(2)]
    for n, made in enumerate(new):
        assert set(made) == VOICE_KEYS
        assert (made["name"], made["text"]) == (f"New {n}", SAID)
    assert new[0]["id"] != new[1]["id"]
    bad = {"audio": ("x.wav", b"not audio at all")}
    refused = article.post(VOICES, data={"name": "Bad", "text": SAID}, files=bad)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "audio")


def test_9_use_new_voice_id(article: httpx.Client, reference: bytes) -> None:
    made = upload(article, reference, "Newest", text=SAID)
    assert_spoken(speak(article, voice_id=made["id"], prompt_text="is not needed"))
    assert article.delete(f"{VOICES}/{made['id']}").status_code == 200
    assert speak(article, voice_id=made["id"]).status_code == 404


def test_10_streaming_tts(article: httpx.Client, reference: bytes) -> None:
    form = {"text": WEATHER, "prompt_text": SAID}
    files = {"prompt_audio": ("reference.wav", reference, "audio/wav")}
    answer = article.post(STREAM, data=form, files=files)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    kinds = [event["type"] for event in events]
    assert kinds == ["progress", "chunk"] * (len(kinds) // 2) + ["complete"]
    chunks = [event for event in events if event["type"] == "chunk"]
    assert [chunk["index"] for chunk in chunks] == list(range(len(chunks)))
    wav = b"".join(base64.b64decode(chunk["audio"], validate=True) for chunk in chunks)
    streamed = decode(wav, "wav")
    whole = decode(article.post(TTS, data=form, files=files).content, "wav")
    assert len(streamed.samples) == len(whole.samples)
    assert streamed.rms > SILENCE_RMS
    complete = events[-1]
    assert complete["duration"] == pytest.approx(streamed.duration_s, abs=1e-3)
    assert complete["rtf"] > 0
    assert 0 < complete["ttfa"] <= complete["elapsed"]
    assert_made_as_it_is_sent(article)


def assert_made_as_it_is_sent(http: httpx.Client) -> None:
    """The first audio is here while the engine works; it stops when its client leaves."""
    base_url = str(http.base_url).rstrip("/")
    with http.stream("POST", STREAM, data={"text": ENDLESS, "voice_id": "alloy"}) as stream:
        lines = stream.iter_lines()
        assert '"type":"chunk"' in next(line for line in lines if "chunk" in line)
        assert running_jobs(base_url) == 1
    wait_for(lambda: running_jobs(base_url) == 0, 1.0, "no job is left")
