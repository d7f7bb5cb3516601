"""The transcription endpoints around a fake engine."""

import io
import json
import logging
import wave
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.catalog import Engines
from server.settings import Limits, Settings
from server.tests.fakes import FakeEngine, FakeListener

Client = TestClient[Any]
TRANSCRIBE = "/v1/audio/transcriptions"
TRANSLATE = "/v1/audio/translations"


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(bytes(int(32_000 * seconds) // 2 * 2))
    return file.getvalue()


def app_client(*listeners: FakeListener, settings: Settings | None = None) -> Client:
    engines = Engines({"espeak-ng": FakeEngine()}, {each.name: each for each in listeners})
    return TestClient(create_app(settings or Settings(), engines))


@pytest.fixture
def listener() -> FakeListener:
    return FakeListener()


@pytest.fixture
def client(listener: FakeListener) -> Iterator[Client]:
    with app_client(listener) as client:
        yield client


def post(client: Client, path: Any = TRANSCRIBE, seconds: Any = 2.0, **fields: Any) -> Any:
    data = {"model": "whisper-1", **fields}
    return client.post(path, data=data, files={"file": ("a.bin", wav(seconds))})


def refused(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_json_has_text_usage_and_language(client: Client) -> None:
    answer = post(client, seconds=2.5)
    assert answer.json() == {
        "text": "w0 w1",
        "languages": [{"code": "en"}],
        "usage": {"type": "duration", "seconds": 3},
    }
    assert answer.headers["x-rhapsode-engine"] == "fake-listener"
    assert answer.headers["x-rhapsode-accuracy"] == "low"


@pytest.mark.parametrize(
    ("response_format", "body"),
    [
        ("text", "w0 w1\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\nw0\n\n2\n00:00:01,000 --> 00:00:02,000\nw1\n"),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nw0\n\n00:00:01.000 --> 00:00:02.000\nw1\n",
        ),
    ],
)
def test_text_formats_are_plain_text(client: Client, response_format: str, body: str) -> None:
    answer = post(client, response_format=response_format)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.rstrip("\n") == body.rstrip("\n")


def test_verbose_json_has_all_ten_keys_of_a_segment(client: Client) -> None:
    body = post(client, response_format="verbose_json").json()
    assert (body["task"], body["language"], body["duration"]) == ("transcribe", "english", 2.0)
    assert body["segments"][1] == {
        "id": 1,
        "seek": 0,
        "start": 1.0,
        "end": 2.0,
        "text": " w1",
        "tokens": [1],
        "temperature": 0.0,
        "avg_logprob": -0.5,
        "compression_ratio": 0.0,
        "no_speech_prob": 0.0,
    }
    assert "words" not in body


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        (["word"], {"words"}),
        (["segment"], {"segments"}),
        (["word", "segment"], {"words", "segments"}),
    ],
)
@pytest.mark.parametrize("name", ["timestamp_granularities", "timestamp_granularities[]"])
def test_granularities_decide_what_verbose_json_holds(
    client: Client, name: str, asked: list[str], keys: set[str]
) -> None:
    body = post(client, response_format="verbose_json", **{name: asked}).json()
    assert {"words", "segments"} & set(body) == keys
    if "words" in keys:
        assert body["words"][1] == {"word": "w1", "start": 1.0, "end": 1.5}


def test_logprobs_come_when_they_are_asked_for(client: Client) -> None:
    body = post(client, **{"include[]": "logprobs"}).json()
    assert body["logprobs"][0] == {
        "token": " w0",
        "logprob": pytest.approx(-0.693, abs=0.001),
        "bytes": [32, 119, 48],
    }
    assert "logprobs" not in post(client).json()


def events(text: str) -> list[dict[str, Any]]:
    parts = text.split("\n\n")
    assert parts.pop() == ""
    return [json.loads(p.removeprefix("data: ")) for p in parts if p.startswith("data: ")]


def test_streamed_deltas_join_to_the_text(client: Client) -> None:
    answer = post(client, seconds=3, stream="true", **{"include[]": "logprobs"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *deltas, done = events(answer.text)
    assert [event["delta"] for event in deltas] == ["w0", " w1", " w2"]
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "w0 w1 w2"
    assert done["usage"] == {
        "type": "tokens",
        "input_tokens": 30,
        "output_tokens": 3,
        "total_tokens": 33,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 30},
    }
    assert len(done["logprobs"]) == 3


def test_a_stream_tells_the_times_of_each_delta_to_who_asks_for_segments(client: Client) -> None:
    asked: dict[str, Any] = {"timestamp_granularities[]": ["segment"]}
    *parts, done = events(post(client, seconds=2, stream="true", **asked).text)
    assert [(part["type"], part.get("delta")) for part in parts] == [
        ("transcript.text.segment", None),
        ("transcript.text.delta", "w0"),
        ("transcript.text.segment", None),
        ("transcript.text.delta", " w1"),
    ]
    whole = post(client, seconds=2, response_format="verbose_json").json()
    for part, segment in zip(parts[::2], whole["segments"], strict=True):
        assert part["id"] == str(segment["id"])
        assert {name: part[name] for name in ("start", "end", "text")} == {
            name: segment[name] for name in ("start", "end", "text")
        }
    assert done["text"] == "w0 w1"


def test_a_stream_tells_no_segments_to_who_asks_for_words_alone(client: Client) -> None:
    found = events(post(client, stream="true", **{"timestamp_granularities[]": ["word"]}).text)
    assert "transcript.text.segment" not in {event["type"] for event in found}


def test_streamed_and_whole_texts_are_the_same(client: Client) -> None:
    done = events(post(client, seconds=5, stream="true").text)[-1]
    assert done["text"] == post(client, seconds=5).json()["text"]


def test_failure_in_the_middle_is_an_error_answer(listener: FakeListener) -> None:
    with app_client(FakeListener(breaks=True)) as client:
        answer = post(client, seconds=4)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "engine_failed"


def test_silence_is_an_empty_text(client: Client) -> None:
    body = post(client, seconds=0.5).json()
    assert (body["text"], body["languages"]) == ("", [])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"language": "en-US"}, {"language": "en"}),
        ({"language": "English"}, {"language": "en"}),
        ({"language": ""}, {"language": None}),
        ({"languages[]": ["en"]}, {"language": "en"}),
        ({"languages[]": ["en", "de"]}, {"language": None}),
        ({"prompt": "Names: Ada."}, {"prompt": "Names: Ada."}),
        ({"temperature": "0.4"}, {"temperature": 0.4}),
        ({"keywords[]": ["Ada", "Bob"]}, {"keywords": ("Ada", "Bob")}),
        ({"keywords": "Ada, Bob"}, {"keywords": ("Ada", "Bob")}),
        ({"keywords": '["Ada", "Bob, too"]'}, {"keywords": ("Ada", "Bob, too")}),
        ({"stream": "true"}, {"is_live": True}),
        ({"stream": "false"}, {"is_live": False}),
        ({"chunking_strategy": "auto"}, {"detection": None}),
    ],
)
def test_fields_reach_the_engine_from_every_spelling(
    client: Client, listener: FakeListener, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert post(client, **fields).status_code == 200
    (options,) = listener.options
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    "fields",
    [
        {
            "chunking_strategy": '{"type": "server_vad", "threshold": 0.7,'
            ' "silence_duration_ms": 900}'
        },
        {
            "chunking_strategy[type]": "server_vad",
            "chunking_strategy[threshold]": "0.7",
            "chunking_strategy[silence_duration_ms]": "900",
        },
    ],
)
def test_speech_detection_comes_as_json_or_in_parts(
    client: Client, listener: FakeListener, fields: dict[str, Any]
) -> None:
    assert post(client, **fields).status_code == 200
    detection = listener.options[0].detection
    assert detection is not None
    assert (detection.threshold, detection.padding_s, detection.min_silence_s) == (0.7, 0.3, 0.9)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities[]": "letter"}, "timestamp_granularities"),
        ({"include[]": "everything"}, "include"),
        ({"stream": "perhaps"}, "stream"),
        ({"chunking_strategy": "foo"}, "chunking_strategy"),
        ({"chunking_strategy": '{"type": "foo"}'}, "chunking_strategy"),
        ({"language": "klingon"}, "language"),
        ({"language": "fr"}, "language"),
        ({"known_speaker_names[]": ["a", "b", "c", "d", "e"]}, "known_speaker_names"),
        ({"known_speaker_names[]": ["a"]}, "known_speaker_names"),
    ],
)
def test_bad_field_is_named(client: Client, fields: dict[str, Any], param: str) -> None:
    assert refused(post(client, **fields))["param"] == param


@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"<html></html>"])
def test_what_is_not_audio_names_the_file(client: Client, content: bytes) -> None:
    data = {"model": "whisper-1"}
    for extra in ({}, {"stream": "true"}):
        answer = client.post(TRANSCRIBE, data={**data, **extra}, files={"file": ("a", content)})
        assert refused(answer)["param"] == "file"


def test_missing_file_is_named(client: Client) -> None:
    answer = client.post(TRANSCRIBE, data={"model": "whisper-1"}, files={"other": b"x"})
    assert refused(answer)["param"] == "file"


def test_body_must_be_a_form(client: Client) -> None:
    assert refused(client.post(TRANSCRIBE, json={"model": "x"}))["code"] == "invalid_content_type"


def test_upload_over_the_limit_is_413(listener: FakeListener) -> None:
    settings = Settings(limits=Limits(upload_bytes=50_000))
    with app_client(listener, settings=settings) as client:
        answer = post(client, seconds=2)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert post(client, seconds=1).status_code == 200


def test_recording_over_the_limit_is_refused(listener: FakeListener) -> None:
    settings = Settings(limits=Limits(recording_s=2))
    with app_client(listener, settings=settings) as client:
        assert refused(post(client, seconds=4))["param"] == "file"
        assert post(client, seconds=1).status_code == 200
    assert listener.open_jobs == 0


def test_model_that_speaks_does_not_listen_and_the_other_way_round(client: Client) -> None:
    assert refused(post(client, model="tts-1"))["param"] == "model"
    speech = {"model": "whisper-1", "voice": "low", "input": "hi"}
    assert refused(client.post("/v1/audio/speech", json=speech))["param"] == "model"
    assert post(client, model="nope").status_code == 404


def test_alias_means_the_best_engine_that_has_its_model() -> None:
    for is_absent, expected in ((True, "pocketsphinx"), (False, "whisper")):
        whisper, embedded = FakeListener("whisper", is_absent=is_absent), FakeListener()
        with app_client(embedded, whisper) as client:
            assert client.get("/v1/models/whisper-1").json()["engine"] == expected
            assert post(client).status_code == 200
        used = embedded if is_absent else whisper
        assert len(used.options) == 1


def test_without_a_fallback_the_answer_says_how_to_get_a_model() -> None:
    with app_client(FakeListener("whisper", is_absent=True)) as client:
        answer = post(client)
        assert answer.status_code == 503
        assert "fetch one" in answer.json()["error"]["message"]
        assert client.get("/ready").status_code == 200
        assert client.get("/v1/models/whisper-1").json()["description"] == "no model: fetch one"


def test_translation_is_in_english(client: Client, listener: FakeListener) -> None:
    assert post(client, TRANSLATE).json() == {"text": "w0 w1"}
    verbose = post(client, TRANSLATE, response_format="verbose_json").json()
    assert (verbose["task"], verbose["language"]) == ("translate", "english")
    assert {options.task for options in listener.options} == {"translate"}


def test_log_tells_of_a_transcription_but_not_its_text(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    post(client, prompt="secret")
    (line,) = [r.getMessage() for r in caplog.records if "event=transcription" in r.getMessage()]
    for part in ("engine=fake-listener", "segments=2", "audio_s=2.0", "outcome=done", "rtf="):
        assert part in line
    assert "w0" not in caplog.text
    assert "secret" not in caplog.text
